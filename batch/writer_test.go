package batch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// clocked is a KV that answers each transaction in a millisecond of the bubble's time, and nothing else. What etcd does is
// tested against etcd; this is for when the Writer asks it.
type clocked struct {
	clientv3.KV
	sent chan sent
}

type sent struct {
	at   time.Time
	keys string
}

func (k *clocked) Txn(ctx context.Context) clientv3.Txn { return &clockedTxn{kv: k, ctx: ctx} }

type clockedTxn struct {
	clientv3.Txn
	kv  *clocked
	ctx context.Context //nolint:containedctx // as clientv3's own
	ops []clientv3.Op
}

func (x *clockedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	x.ops = ops
	return x
}

func (x *clockedTxn) Commit() (*clientv3.TxnResponse, error) {
	keys := make([]string, len(x.ops))
	for i, op := range x.ops {
		keys[i] = string(op.KeyBytes())
	}
	x.kv.sent <- sent{time.Now(), strings.Join(keys, " ")}
	select {
	case <-time.After(time.Millisecond):
		return &clientv3.TxnResponse{Header: &pb.ResponseHeader{Revision: 1}, Succeeded: true}, nil
	case <-x.ctx.Done():
		return nil, x.ctx.Err()
	}
}

// clock opens a Writer in a bubble, and closes it when the test ends. next returns the next transaction, and when it was
// sent.
func clock(t *testing.T, opts *Options) (w *Writer, next func() string) {
	kv := &clocked{sent: make(chan sent, 100)}
	w, err := New(kv, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	began := time.Now()
	return w, func() string {
		s := <-kv.sent
		return fmt.Sprintf("%v: %s", s.at.Sub(began), s.keys)
	}
}

func add(t *testing.T, w *Writer, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if _, err := w.Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, next func() string, want ...string) {
	t.Helper()
	for _, want := range want {
		if got := next(); got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
	}
}

func TestAnOperationWaitsForCompanyForTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, next := clock(t, &Options{Interval: 10 * time.Millisecond})
		add(t, w, "a")
		<-time.After(6 * time.Millisecond)
		add(t, w, "b") // goes along
		expect(t, next, "10ms: a b")
		add(t, w, "c") // has an interval of its own
		expect(t, next, "20ms: c")
	})
}

func TestAFullTransactionWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, next := clock(t, &Options{Interval: time.Hour, MaxOps: 2})
		add(t, w, "a", "b", "c")
		expect(t, next, "0s: a b")
		add(t, w, "d")
		expect(t, next, "0s: c d")
	})
}

func TestWithoutAnIntervalWhatComesDuringATransactionGoesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, next := clock(t, &Options{Interval: -1, InFlight: 1})
		add(t, w, "a")
		synctest.Wait()
		add(t, w, "b", "c", "a")
		expect(t, next, "0s: a", "1ms: b c a")
	})
}

func TestAKeyInFlightHasItsIntervalFromItsFateOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, next := clock(t, &Options{Interval: 10 * time.Millisecond, MaxOps: 2})
		add(t, w, "a", "b", "a", "b", "c")
		expect(t, next, "0s: a b", "1ms: c a", "11ms: b")
	})
}

func TestWhoWaitsHasEverythingSentAtOnce(t *testing.T) {
	t.Run("in Flush", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, next := clock(t, &Options{Interval: time.Hour})
			add(t, w, "a", "b")
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			expect(t, next, "0s: a b")
			add(t, w, "c") // nobody waits any more
			synctest.Wait()
			<-time.After(time.Minute)
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			expect(t, next, "1m0.001s: c")
		})
	})
	t.Run("in Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, next := clock(t, &Options{Interval: time.Hour, InFlight: 1, MaxOps: 1})
			add(t, w, "a", "a")
			if err := w.Close(t.Context()); err != nil {
				t.Error(err)
			}
			expect(t, next, "0s: a", "1ms: a")
		})
	})
	t.Run("for room", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, next := clock(t, &Options{Interval: time.Hour, MaxBytes: 1000, MaxBuffered: 2 * (1000 + writeCost)})
			// There is room for nine, which are far from a full transaction. The tenth waits, and has them go out.
			add(t, w, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
			expect(t, next, "0s: a b c d e f g h i")
		})
	})
}

func TestAnOperationThatIsRefusedIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := clock(t, &Options{MaxBytes: 100})
		ended, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("no more rows")
		cancel(cause)
		for _, c := range []struct {
			what string
			put  func() (Pending, error)
			want error
		}{
			{"an empty key", func() (Pending, error) { return w.Put(t.Context(), "", "v") }, rpctypes.ErrEmptyKey},
			{"a deleted empty key", func() (Pending, error) { return w.Delete(t.Context(), "") }, rpctypes.ErrEmptyKey},
			{"too large", func() (Pending, error) { return w.Put(t.Context(), "k", strings.Repeat("v", 100)) }, ErrTooLarge},
			{"an ended context", func() (Pending, error) { return w.Put(ended, "k", "v") }, context.Canceled},
			{"its cause", func() (Pending, error) { return w.Delete(ended, "k") }, cause},
		} {
			if _, err := c.put(); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.what, err, c.want)
			}
		}
		if w.buffer.open != 0 || w.room.free != w.opts.MaxBuffered {
			t.Errorf("%d writes were taken, %d bytes are free", w.buffer.open, w.room.free)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := w.Put(t.Context(), "k", "v"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A hot key must not fill the buffer with values that nobody will ever read, nor the books with room that is taken twice.
func TestCoalescingGivesRoomBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := clock(t, &Options{Interval: time.Hour, MaxBytes: 1000, MaxBuffered: 2 * (1000 + writeCost)})
		var last Pending
		for i := range 1000 {
			p, err := w.Put(t.Context(), "hot", strings.Repeat("v", i%900))
			if err != nil {
				t.Fatal(err)
			}
			last = p
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if last.Superseded() || w.room.free != w.opts.MaxBuffered {
			t.Errorf("the last one is superseded: %t; %d bytes are free of %d", last.Superseded(), w.room.free, w.opts.MaxBuffered)
		}
	})
}
