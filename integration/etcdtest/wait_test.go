package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// fakeT is a test that is expected to fail.
type fakeT struct {
	testing.TB
	said string
}

func (f *fakeT) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what check fails its test with, or fails t if it does not.
func failure(t *testing.T, check func(fake testing.TB)) string {
	t.Helper()
	fake := &fakeT{TB: t}
	etcdtest.Returns(t, soon, "a check that should fail", func() { check(fake) })
	if fake.said == "" {
		t.Error("a check did not fail")
	}
	return fake.said
}

func TestWaitsEndWithWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	values := make(chan int, 1)
	values <- 3
	if got := etcdtest.Receive(t, soon, "a value", values); got != 3 {
		t.Errorf("got %d", got)
	}
	etcdtest.Nothing(t, time.Millisecond, "values", values)
	done := make(chan struct{})
	if took := etcdtest.Returns(t, soon, "close", func() { close(done) }); took > soon {
		t.Errorf("it took %v", took)
	}
	etcdtest.Done(t, soon, "done", done)
	tries := 0
	etcdtest.Eventually(t, soon, "the third try", func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
}

func TestWaitsFailWithAMessage(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)
	put(t, cli, key+"there", "")
	never, closed := make(chan int), make(chan int)
	close(closed)
	for want, check := range map[string]func(testing.TB){
		"it: nothing within 1ms":     func(t testing.TB) { etcdtest.Receive(t, time.Millisecond, "it", never) },
		"it: the channel was closed": func(t testing.TB) { etcdtest.Receive(t, soon, "it", closed) },
		"it: not done within 1ms":    func(t testing.TB) { etcdtest.Done(t, time.Millisecond, "it", nil) },
		"it: not done within 2ms":    func(t testing.TB) { etcdtest.Returns(t, 2*time.Millisecond, "it", func() { <-t.Context().Done() }) },
		"it: got 0 (closed: true)":   func(t testing.TB) { etcdtest.Nothing(t, soon, "it", closed) },
		"it: not so within 1ms: never": func(t testing.TB) {
			etcdtest.Eventually(t, time.Millisecond, "it", func(context.Context) error { return errors.New("never") })
		},
		"waiting for 1 keys at": func(t testing.TB) { etcdtest.WaitKey(t, 50*time.Millisecond, cli, key) },
		"waiting for 0 keys at": func(t testing.TB) { etcdtest.WaitGone(t, 50*time.Millisecond, cli, key+"there") },
		"waiting for 2 keys at": func(t testing.TB) { etcdtest.WaitKeys(t, 50*time.Millisecond, cli, key, 2) },
	} {
		if said := failure(t, check); !strings.Contains(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	}
}

func TestPrefixesNeverMeet(t *testing.T) {
	t.Parallel()
	t.Run("strange/../name ü", func(t *testing.T) {
		one, two := etcdtest.Prefix(t), etcdtest.Prefix(t)
		if one == two || strings.HasPrefix(one, two) || strings.HasPrefix(two, one) {
			t.Errorf("%q and %q", one, two)
		}
		if strings.Trim(one, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "/" {
			t.Errorf("%q", one)
		}
	})
}
