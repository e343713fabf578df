package batch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestATransactionGoesOutByCountByBytesAndByInterval(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	for what, c := range map[string]struct {
		opts  batch.Options
		n     int
		value string
	}{
		"count":    {batch.Options{Interval: never, MaxOps: 10}, 10, "v"},
		"bytes":    {batch.Options{Interval: never, MaxBytes: 10_000}, 10, kib(1)},
		"interval": {batch.Options{Interval: 20 * time.Millisecond}, 10, "v"},
		"none":     {batch.Options{Interval: -1}, 1, "v"},
	} {
		t.Run(what, func(t *testing.T) {
			w := open(t, cli, &c.opts)
			first := put(t, w, p+what+"/first", c.value)
			for _, key := range keys(p+what+"/", c.n-1) {
				put(t, w, key, c.value)
			}
			applied(t, first) // nobody flushes
		})
	}
	w := open(t, cli, &batch.Options{Interval: never})
	alone := put(t, w, p+"alone", "v")
	etcdtest.Nothing(t, 50*time.Millisecond, "a fate before the interval is over", alone.Done())
	if err := flush(t, w); err != nil {
		t.Error(err)
	}
	applied(t, alone)
}

func TestFlushReturnsWhenEverythingMadeBeforeIsInEtcd(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never})
	if err := flush(t, w); err != nil {
		t.Errorf("with nothing to flush: %v", err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // somebody else who never flushes
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if _, err := w.Put(t.Context(), fmt.Sprintf("%sother/%d", p, i%1000), "v"); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for i := range 20 {
		prefix := fmt.Sprintf("%smine/%d/", p, i)
		for _, key := range keys(prefix, 300) {
			put(t, w, key, "v")
		}
		if err := flush(t, w); err != nil {
			t.Fatal(err)
		}
		if resp, err := cli.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || resp.Count != 300 {
			t.Fatalf("flush %d: %d keys of 300 (%v)", i, resp.Count, err)
		}
	}
	close(stop)
	etcdtest.Done(t, soon, "the other writer", stopped)
}

func TestAFlushThatIsGivenUpLeavesItsFailuresToTheNext(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never, MaxOps: 1})
	calls.Inject(etcdtest.Fault{Call: "Txn", Err: rpctypes.ErrGRPCPermissionDenied})
	failed(t, put(t, w, p+"early", "v"), batch.ErrNotApplied, rpctypes.ErrPermissionDenied)
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: hold, Err: rpctypes.ErrGRPCPermissionDenied})
	pending := put(t, w, p+"late", "v")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller has lost interest")
	given := make(chan error)
	go func() { given <- w.Flush(ctx) }()
	etcdtest.Done(t, soon, "the transaction", held.Hit())
	cancel(cause)
	err := etcdtest.Receive(t, soon, "the end of a flush", given)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || errors.Is(err, batch.ErrNotApplied) {
		t.Errorf("given up: %v", err)
	}
	if _, err := pending.Wait(ctx); !errors.Is(err, cause) || errors.Is(err, batch.ErrUnknown) {
		t.Errorf("the operation has a fate: %v", err)
	}
	close(hold)
	if err := flush(t, w); !errors.Is(err, batch.ErrNotApplied) || !strings.Contains(err.Error(), p+"early") || !strings.Contains(err.Error(), p+"late") {
		t.Errorf("the next: %v", err)
	}
	// A fate that is known is told whatever the context says.
	if _, err := pending.Wait(ctx); !errors.Is(err, batch.ErrNotApplied) || errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

// Thousands of failures must not be kept for a Flush that comes at the end, or never.
func TestFlushTellsOfManyFailuresInFew(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{MaxOps: 10})
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Err: rpctypes.ErrGRPCClusterIDMismatch})
	for _, key := range keys(p, 1000) {
		put(t, w, key, "v")
	}
	err := flush(t, w)
	n := strings.Count(err.Error(), "\n")
	if !errors.Is(err, batch.ErrNotApplied) || n > 16 || !strings.Contains(err.Error(), "more keys that were not applied") {
		t.Errorf("%d lines: %v", n, err)
	}
}
