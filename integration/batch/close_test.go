package batch_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestCloseHasEverythingWritten(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never})
	var last batch.Pending
	for _, key := range keys(p, 2000) {
		last = put(t, w, key, "v")
	}
	for range 2 {
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		applied(t, last)
	}
	if resp, err := cli.Get(t.Context(), p, clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || resp.Count != 2000 {
		t.Errorf("%d keys (%v)", resp.Count, err)
	}
	if _, err := w.Put(t.Context(), p+"late", "v"); !errors.Is(err, batch.ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
	if _, err := w.Delete(t.Context(), p+"late"); !errors.Is(err, batch.ErrClosed) {
		t.Errorf("Delete after Close: %v", err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Errorf("Flush after Close: %v", err)
	}
}

func TestCloseTellsOfFailures(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never})
	calls.Inject(etcdtest.Fault{Call: "Txn", After: true})
	put(t, w, p+"k", "v")
	for range 2 {
		if err := w.Close(t.Context()); !errors.Is(err, batch.ErrUnknown) || !strings.Contains(err.Error(), p+"k") {
			t.Errorf("%v", err)
		}
	}
}

func TestCloseEndsWithItsContextThoughEtcdIsNotThere(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(*etcdtest.Link){
		"silent":       func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"answers lost": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Responses) },
		"cut off":      (*etcdtest.Link).Cut,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := etcdtest.NewLink(t, etcdtest.Endpoints()[0])
			cli, p := link.Client(), etcdtest.Prefix(t)
			w := open(t, cli, &batch.Options{
				MaxOps: 1, InFlight: 2, MaxBytes: 64 << 10, MaxBuffered: 128 << 10,
				Retry: retry.Policy{AttemptTimeout: time.Minute, MaxElapsed: time.Minute},
			})
			applied(t, put(t, w, p+"before", "v"))
			hurt(link)
			taken := fill(t, w, p, kib(10))
			stands := make(chan error)
			go func() {
				_, err := w.Put(t.Context(), p+"in line", kib(10))
				stands <- err
			}()
			etcdtest.Nothing(t, 50*time.Millisecond, "room", stands)

			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("out of patience")
			closed := make(chan error, 2)
			for _, ctx := range []context.Context{ctx, context.WithoutCancel(ctx)} { // the first that ends counts for both
				go func() { closed <- w.Close(ctx) }()
			}
			if err := etcdtest.Receive(t, soon, "the end of a wait for room", stands); !errors.Is(err, batch.ErrClosed) {
				t.Errorf("one who waited for room: %v", err)
			}
			etcdtest.Nothing(t, 50*time.Millisecond, "a Close that has given up", closed)
			cancel(cause)
			var texts []string
			for range 2 {
				err := etcdtest.Receive(t, soon, "the end of Close", closed)
				if !errors.Is(err, cause) || !errors.Is(err, batch.ErrUnknown) || !errors.Is(err, batch.ErrNotApplied) {
					t.Errorf("Close: %v", err)
				}
				texts = append(texts, err.Error())
			}
			if texts[0] != texts[1] {
				t.Errorf("two Closes: %v", texts)
			}

			// What was sent may be in etcd, and may get there yet; the rest is not, and will not.
			link.Heal()
			unknown := 0
			direct := etcdtest.Client(t)
			for key, pending := range taken {
				select {
				case <-pending.Done():
				default:
					t.Errorf("%s has no fate, and Close has returned", key)
					continue
				}
				switch _, err := pending.Wait(t.Context()); {
				case errors.Is(err, batch.ErrUnknown):
					unknown++
				case !errors.Is(err, batch.ErrNotApplied) || !errors.Is(err, batch.ErrClosed) || !errors.Is(err, cause):
					t.Errorf("%s: %v", key, err)
				case get(t, direct, key) != nil:
					t.Errorf("%s is not applied, and is in etcd", key)
				}
			}
			// The 2 in flight; and those 2 whose connection broke, where it did.
			if unknown < 2 || unknown > 4 || unknown > 2 && what != "cut off" || len(taken) < 8 {
				t.Errorf("%d of %d operations are unknown", unknown, len(taken))
			}
		})
	}
}

// Refused, in a wait between two attempts, is certain.
func TestCloseDuringAWaitBetweenAttemptsLeavesNothingUnknown(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Retry: retry.Policy{Initial: time.Hour, Max: time.Hour, MaxElapsed: -1}})
	refused := calls.Inject(etcdtest.Fault{Call: "Txn", Err: rpctypes.ErrGRPCNoLeader})
	pending := put(t, w, p+"k", "v")
	etcdtest.Done(t, soon, "a refusal", refused.Hit())
	etcdtest.Nothing(t, 20*time.Millisecond, "a fate", pending.Done())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, batch.ErrUnknown) {
		t.Errorf("Close: %v", err)
	}
	failed(t, pending, batch.ErrNotApplied, rpctypes.ErrNoLeader)
}
