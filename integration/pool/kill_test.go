package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// F2, F3: members are processes, and are killed and started again one after the other, the leader first. No read and no
// conditional write fails, none is applied twice, and a session lives through it.
func TestMembersThatAreKilledCostNoCall(t *testing.T) {
	t.Parallel()
	c, err := etcdproc.Start(t.Context(), etcdproc.Config{Members: 3, NoFsync: true, Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := open(t, pool.Config{Endpoints: c.Endpoints()})
	s, err := session.Open(t.Context(), p.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		callers sync.WaitGroup
		writes  [4]writer
		reads   gaps
	)
	for i := range writes {
		writes[i].key = fmt.Sprintf("counter/%d", i)
		callers.Go(func() {
			for ctx.Err() == nil {
				writes[i].write(t, p.Client())
			}
		})
	}
	callers.Go(func() {
		for ctx.Err() == nil {
			if _, err := p.Client().Get(t.Context(), "counter/0"); err != nil {
				t.Errorf("a read: %v", err)
			}
			reads.seen()
		}
	})

	for range 3 {
		for i := range writes {
			writes[i].done.again(t, 3*soon, "writes")
		}
		leader, err := c.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Kill(leader); err != nil {
			t.Fatal(err)
		}
		for i := range writes {
			writes[i].done.again(t, 3*soon, "writes without the member")
		}
		if err := c.Restart(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	callers.Wait()
	for i := range writes {
		w := &writes[i]
		t.Logf("%s: %d writes, the longest outage %v", w.key, w.done.count(), w.done.longest.Round(time.Millisecond))
		got, err := p.Client().Get(t.Context(), w.key)
		if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Version != w.version || got.Kvs[0].ModRevision != w.revision {
			t.Errorf("%s is %v, and was written %d times, last at %d (%v)", w.key, got, w.version, w.revision, err)
		}
	}
	t.Logf("%d reads, the longest outage %v", reads.count(), reads.longest.Round(time.Millisecond))
	if err := s.Close(t.Context()); err != nil || !errors.Is(context.Cause(s.Context()), session.ErrClosed) {
		t.Errorf("the session ends with %v and %v", context.Cause(s.Context()), err)
	}
}

// writer is the only one to write a key, each time if it is as it left it.
type writer struct {
	key      string
	version  int64
	revision int64
	done     gaps
}

func (w *writer) write(t *testing.T, etcd *clientv3.Client) {
	value := fmt.Sprint(w.version + 1)
	asLeft := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(w.key), "=", w.revision)}
	result, err := retry.Commit(t.Context(), etcd.KV, asLeft, []clientv3.Op{clientv3.OpPut(w.key, value)}, func(ctx context.Context) (retry.Outcome, int64, error) {
		got, err := etcd.Get(ctx, w.key)
		if err != nil || len(got.Kvs) == 0 || string(got.Kvs[0].Value) != value {
			return retry.Unknown, 0, err
		}
		return retry.Applied, got.Kvs[0].ModRevision, nil
	})
	if err != nil || result.Outcome != retry.Applied {
		t.Errorf("a conditional write: %+v, %v", result, err)
		return
	}
	w.version++
	w.revision = result.Revision
	w.done.seen()
}
