package etcdtest

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pollInterval is how often Eventually looks.
const pollInterval = 5 * time.Millisecond

// Eventually returns when check returns nil, and fails the test with check's last error if that is not so within
// the given time. Only what cannot be waited for by an event is worth it. check's context ends with the given time.
func Eventually(t testing.TB, within time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := eventually(t.Context(), within, check); err != nil {
		t.Fatalf("%s: not so within %v: %v", what, within, err)
	}
}

func eventually(ctx context.Context, within time.Duration, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // and not the end of check's own context
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pollInterval):
		}
	}
}

// Receive returns the next value of a channel, and fails the test if none comes within the given time or if the
// channel is closed. Time in which the machine did not run this process does not count.
func Receive[T any](t testing.TB, within time.Duration, what string, from <-chan T) T {
	t.Helper()
	up, stop := timeUp(within)
	defer stop()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatalf("%s: the channel was closed", what)
		}
		return v
	case <-up:
		t.Fatalf("%s: nothing within %v", what, within)
	case <-t.Context().Done():
		t.Fatalf("%s: %v", what, context.Cause(t.Context()))
	}
	panic("unreachable")
}

// Done returns when a channel such as a context's Done is closed, and fails the test if that is not so within the
// given time, in which time that the machine did not run this process does not count. It returns how long it waited.
func Done(t testing.TB, within time.Duration, what string, done <-chan struct{}) time.Duration {
	t.Helper()
	start := time.Now()
	up, stop := timeUp(within)
	defer stop()
	select {
	case <-done:
	case <-up:
		t.Fatalf("%s: not done within %v", what, within)
	}
	return time.Since(start)
}

// Returns runs f in a goroutine of its own and waits for it, and fails the test if f has not returned within the
// given time. It returns how long f took.
func Returns(t testing.TB, within time.Duration, what string, f func()) time.Duration {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return Done(t, within, what, done)
}

// Nothing fails the test if a value arrives or the channel is closed during the given time.
func Nothing[T any](t testing.TB, during time.Duration, what string, from <-chan T) {
	t.Helper()
	select {
	case v, ok := <-from:
		t.Fatalf("%s: got %v (closed: %t) within %v, wanted nothing", what, v, !ok, during)
	case <-time.After(during):
	case <-t.Context().Done():
		t.Fatalf("%s: %v", what, context.Cause(t.Context()))
	}
}

// WaitKey returns when the key exists, and fails the test if that is not so within the given time. It returns the
// key as it was first seen.
func WaitKey(t testing.TB, within time.Duration, cli *clientv3.Client, key string) *clientv3.GetResponse {
	t.Helper()
	return waitKeys(t, within, cli, key, 1)
}

// WaitGone returns when the key does not exist, and fails the test if that is not so within the given time.
func WaitGone(t testing.TB, within time.Duration, cli *clientv3.Client, key string) *clientv3.GetResponse {
	t.Helper()
	return waitKeys(t, within, cli, key, 0)
}

// WaitKeys returns when exactly n keys exist under a prefix, and fails the test if that is not so within the given
// time. It returns them as they were then.
func WaitKeys(t testing.TB, within time.Duration, cli *clientv3.Client, prefix string, n int) *clientv3.GetResponse {
	t.Helper()
	return waitKeys(t, within, cli, prefix, n, clientv3.WithPrefix())
}

// waitKeys reads, and then reads again at every change: it polls nothing.
func waitKeys(
	t testing.TB, within time.Duration, cli *clientv3.Client, key string, n int, opts ...clientv3.OpOption,
) *clientv3.GetResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	changes := cli.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
	for {
		change, ok := <-changes
		if !ok {
			t.Fatalf("etcdtest: waiting for %d keys at %q: not so within %v", n, key, within)
		}
		if err := change.Err(); err != nil {
			t.Fatalf("etcdtest: waiting for %d keys at %q: %v", n, key, err)
		}
		resp, err := cli.Get(ctx, key, opts...)
		if err != nil {
			t.Fatalf("etcdtest: waiting for %d keys at %q: %v", n, key, err)
		}
		if len(resp.Kvs) == n {
			return resp
		}
	}
}
