package config_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) {
	// Many of these tests wait for a lease or a backoff to be over: let them wait together, unless the command line says otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

// soon bounds what takes milliseconds on a quiet machine.
const soon = 10 * time.Second

// open opens a Value that is closed when the test ends.
func open[T any](t testing.TB, cli *clientv3.Client, key string, opts *config.Options[T]) *config.Value[T] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	v, err := config.Open(ctx, cli, key, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// put puts a document, as a person would, and returns its revision.
func put(t testing.TB, cli *clientv3.Client, key, document string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp, err := cli.Put(ctx, key, document)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// remove deletes a key and returns the revision of that.
func remove(t testing.TB, cli *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := cli.Delete(t.Context(), key)
	if err != nil || resp.Deleted != 1 {
		t.Fatal(resp, err)
	}
	return resp.Header.Revision
}

// changes passes on what v.Changes yields, the current value first, until the test ends.
func changes[T any](t testing.TB, v *config.Value[T]) <-chan config.Snapshot[T] {
	out := make(chan config.Snapshot[T])
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		defer close(out)
		for s := range v.Changes(ctx) {
			select {
			case out <- s:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out
}

// next waits for the next change.
func next[T any](t testing.TB, from <-chan config.Snapshot[T]) config.Snapshot[T] {
	t.Helper()
	return etcdtest.Receive(t, soon, "the next change", from)
}

// failing is a Value or a Map.
type failing interface{ Err() error }

// becomes waits until v.Err says that: a sentinel, or nil.
func becomes(t testing.TB, v failing, want error) {
	t.Helper()
	until(t, v, fmt.Sprintf("Err becomes %v", want), func(err error) bool {
		if want == nil {
			return err == nil
		}
		return errors.Is(err, want)
	})
}

// until waits until v.Err is as it should be.
func until(t testing.TB, v failing, what string, holds func(error) bool) {
	t.Helper()
	etcdtest.Eventually(t, soon, what, func(context.Context) error {
		switch err := v.Err(); {
		case holds(err):
			return nil
		case err == nil:
			return errors.New("Err is nil")
		default:
			return fmt.Errorf("Err is: %w", err)
		}
	})
}

// refusedAt is a refusal of the document of a revision.
func refusedAt(revision int64) func(error) bool {
	return func(err error) bool {
		return errors.Is(err, config.ErrRefused) && strings.Contains(err.Error(), fmt.Sprintf("at revision %d:", revision))
	}
}
