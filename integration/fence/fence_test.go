package fence_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// acquire makes a key as an acquisition does, and returns its guard.
func acquire(t *testing.T, cli *clientv3.Client, key string) fence.Guard {
	t.Helper()
	resp, err := cli.Put(t.Context(), key, "")
	if err != nil {
		t.Fatal(err)
	}
	return fence.Guard{Key: key, Token: fence.Token(resp.Header.Revision)}
}

// get returns the value of a key, or "none".
func get(t *testing.T, cli *clientv3.Client, key string) string {
	t.Helper()
	resp, err := cli.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Count == 0 {
		return "none"
	}
	return string(resp.Kvs[0].Value)
}

func TestCommitWritesAllWhileTheKeyIsTheOneThatWasCreated(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	g := acquire(t, cli, p+"owner")
	// Changing the key's value makes no other owner of it.
	if _, err := cli.Put(t.Context(), g.Key, "proclaimed"); err != nil {
		t.Fatal(err)
	}
	resp, err := g.Commit(t.Context(), cli, clientv3.OpPut(p+"a", "1"), clientv3.OpPut(p+"b", "2"), clientv3.OpGet(p+"a"))
	if err != nil || !resp.Succeeded || len(resp.Responses) != 3 {
		t.Fatalf("%v, %v", resp, err)
	}
	if v := string(resp.Responses[2].GetResponseRange().Kvs[0].Value); v != "1" {
		t.Errorf("read %q in the transaction, want what it wrote", v)
	}
	if a, b := get(t, cli, p+"a"), get(t, cli, p+"b"); a != "1" || b != "2" {
		t.Errorf("wrote %q and %q", a, b)
	}
	if _, err := g.Commit(t.Context(), cli); err != nil {
		t.Errorf("a question without a write: %v", err)
	}
}

func TestAGuardedWriteThatComesTooLateWritesNothing(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	for what, free := range map[string]func(g fence.Guard){
		"gone":  func(g fence.Guard) { etcdtest.Shared(t).Delete(g.Key) },
		"taken": func(g fence.Guard) { etcdtest.Shared(t).Delete(g.Key); acquire(t, cli, g.Key) },
	} {
		t.Run(what, func(t *testing.T) {
			p := etcdtest.Prefix(t)
			g := acquire(t, cli, p+"owner")
			free(g)
			ctx, kv := t.Context(), g.KV(cli)
			put := clientv3.OpPut(p+"data", "late")
			_, commit := g.Commit(ctx, cli, put)
			_, kvPut := kv.Put(ctx, p+"data", "late")
			_, kvDelete := kv.Delete(ctx, g.Key)
			_, kvTxn := kv.Txn(ctx).Then(put).Else(put).Commit()
			_, kvDo := kv.Do(ctx, put)
			_, kvDoTxn := kv.Do(ctx, clientv3.OpTxn(nil, []clientv3.Op{put}, nil))
			for what, err := range map[string]error{
				"Commit": commit, "Put": kvPut, "Delete": kvDelete, "Txn": kvTxn, "Do": kvDo, "Do of a Txn": kvDoTxn,
			} {
				if !errors.Is(err, fence.ErrLost) || !strings.Contains(err.Error(), g.Key) {
					t.Errorf("%s: %v, want ErrLost with the key", what, err)
				}
			}
			if v := get(t, cli, p+"data"); v != "none" {
				t.Errorf("wrote %q", v)
			}
			resp, err := cli.Txn(ctx).If(g.Cmp()).Then(put).Commit()
			if err != nil || resp.Succeeded {
				t.Errorf("the caller's own transaction: %v, %v", resp, err)
			}
			// Reading is not owning.
			if _, err := kv.Get(ctx, p+"data"); err != nil {
				t.Errorf("Get: %v", err)
			}
			if _, err := kv.Do(ctx, clientv3.OpGet(p+"data")); err != nil {
				t.Errorf("Do of a Get: %v", err)
			}
		})
	}
}

func TestAGuardedKVAnswersAsAPlainOne(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	ctx := t.Context()
	kv := acquire(t, cli, p+"owner").KV(cli)
	lease, err := cli.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	first, err := kv.Put(ctx, p+"k", "1", clientv3.WithLease(lease.ID))
	if err != nil || first.PrevKv != nil {
		t.Fatalf("%v, %v", first, err)
	}
	if resp, err := kv.Get(ctx, p+"k"); err != nil || resp.Count != 1 || resp.Kvs[0].Lease != int64(lease.ID) ||
		resp.Kvs[0].ModRevision != first.Header.Revision {
		t.Errorf("Put gave %v (%v), of which its header does not tell: %v", resp, err, first.Header)
	}
	second, err := kv.Put(ctx, p+"k", "2", clientv3.WithPrevKV())
	if err != nil || second.PrevKv == nil || string(second.PrevKv.Value) != "1" || second.Header.Revision <= first.Header.Revision {
		t.Errorf("Put: %v, %v", second, err)
	}
	deleted, err := kv.Delete(ctx, p+"k", clientv3.WithPrevKV())
	if err != nil || deleted.Deleted != 1 || string(deleted.PrevKvs[0].Value) != "2" || deleted.Header.Revision == 0 {
		t.Errorf("Delete: %v, %v", deleted, err)
	}
	if resp, err := kv.Delete(ctx, p+"none"); err != nil || resp.Deleted != 0 {
		t.Errorf("Delete of nothing: %v, %v", resp, err)
	}
	resp, err := kv.Do(ctx, clientv3.OpPut(p+"k", "3"))
	if err != nil || resp.Put() == nil || resp.Put().Header.Revision == 0 {
		t.Errorf("Do of a Put: %v, %v", resp.Put(), err)
	}
	resp, err = kv.Do(ctx, clientv3.OpDelete(p+"k"))
	if err != nil || resp.Del() == nil || resp.Del().Deleted != 1 {
		t.Errorf("Do of a Delete: %v, %v", resp.Del(), err)
	}
	resp, err = kv.Do(ctx, clientv3.OpGet(p+"owner"))
	if err != nil || resp.Get() == nil || resp.Get().Count != 1 {
		t.Errorf("Do of a Get: %v, %v", resp.Get(), err)
	}
	if _, err := kv.Compact(ctx, 1<<60); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("Compact of the future: %v, want what etcd says", err)
	}
}

// The guard's answer and the caller's conditions are two questions: a false condition is no loss.
func TestAGuardedTxnTakesTheBranchOfTheCallersConditions(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	ctx := t.Context()
	kv := acquire(t, cli, p+"owner").KV(cli)
	absent := clientv3.Compare(clientv3.CreateRevision(p+"k"), "=", 0)
	for i, want := range []bool{true, false} {
		resp, err := kv.Txn(ctx).
			If(absent).
			If(clientv3.Compare(clientv3.CreateRevision(p+"owner"), ">", 0)).
			Then(clientv3.OpPut(p+"k", "made")).
			Then(clientv3.OpTxn(
				[]clientv3.Cmp{absent},
				[]clientv3.Op{clientv3.OpPut(p+"inner", "then")},
				[]clientv3.Op{clientv3.OpPut(p+"inner", "else")},
			)).
			Else(clientv3.OpGet(p + "k")).
			Commit()
		if err != nil || resp.Succeeded != want || resp.Header.GetRevision() == 0 {
			t.Fatalf("transaction %d: %v, %v, want the branch %t", i, resp, err, want)
		}
		if want {
			if inner := resp.Responses[1].GetResponseTxn(); inner == nil || !inner.Succeeded {
				t.Errorf("the transaction within: %v", inner)
			}
		} else if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) != 1 || string(kvs[0].Value) != "made" {
			t.Errorf("the Else read %v", kvs)
		}
	}
	if v := get(t, cli, p+"inner"); v != "then" {
		t.Errorf("the transaction within wrote %q", v)
	}
	resp, err := kv.Do(ctx, clientv3.OpTxn([]clientv3.Cmp{absent}, nil, []clientv3.Op{clientv3.OpPut(p+"else", "1")}))
	if err != nil || resp.Txn() == nil || resp.Txn().Succeeded || get(t, cli, p+"else") != "1" {
		t.Errorf("Do of a Txn: %v, %v", resp.Txn(), err)
	}
}

func TestAFailedCommitIsNoLoss(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	p := etcdtest.Prefix(t)
	g := acquire(t, cli, p+"owner")
	calls.Inject(etcdtest.Fault{Call: "Txn"})
	if _, err := g.Commit(t.Context(), cli, clientv3.OpPut(p+"k", "")); err == nil || errors.Is(err, fence.ErrLost) {
		t.Errorf("a broken connection: %v, want its error, and not ErrLost", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Commit(ctx, cli); !errors.Is(err, context.Canceled) || errors.Is(err, fence.ErrLost) {
		t.Errorf("a context that has ended: %v, want context.Canceled", err)
	}
}

// The answer to a commit is lost, and while it is waited for the owner is told of its loss. That is why nobody waits for the
// answer any more, and not what came of the commit, which a client that repeats calls says in one error.
func TestALossWhileTheAnswerIsWaitedForIsNoRefusal(t *testing.T) {
	t.Parallel()
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: append(retry.DialOptions(retry.Policy{}), calls.DialOptions()...)})
	p := etcdtest.Prefix(t)
	g := acquire(t, cli, p+"owner")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	written := calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Silent: true})
	go func() {
		<-written.Hit()
		cancel(fmt.Errorf("cut off: %w", fence.ErrLost))
	}()
	_, err := g.Commit(ctx, cli, clientv3.OpPut(p+"k", "written"))
	if errors.Is(err, fence.ErrLost) || !errors.Is(err, context.Canceled) || !retry.Ambiguous(err) {
		t.Errorf("%v, want an ambiguous error that is no ErrLost, as the write was made", err)
	}
	if v := get(t, cli, p+"k"); v != "written" {
		t.Errorf("the register has %q: this shows nothing", v)
	}
	// The next one is not sent: that is a loss.
	if _, err := g.Commit(ctx, cli, clientv3.OpPut(p+"k", "again")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("with a context that has ended for a loss: %v, want ErrLost", err)
	}
}

// Two owners of different times write side by side: after the second's first write there is none of the first's.
func TestGuardedWritersOfDifferentTimesDoNotMix(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	old := acquire(t, cli, p+"owner")
	watch := cli.Watch(t.Context(), p+"data", clientv3.WithCreatedNotify())
	<-watch
	var all sync.WaitGroup
	all.Go(func() {
		for {
			if _, err := old.Commit(t.Context(), cli, clientv3.OpPut(p+"data", "old")); err != nil {
				if !errors.Is(err, fence.ErrLost) {
					t.Error(err)
				}
				return
			}
		}
	})
	for range 20 {
		<-watch
	}
	etcdtest.Shared(t).Delete(old.Key)
	next := acquire(t, cli, p+"owner")
	if next.Token <= old.Token {
		t.Errorf("token %d follows %d", next.Token, old.Token)
	}
	if _, err := next.Commit(t.Context(), cli, clientv3.OpPut(p+"data", "new")); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if v := get(t, cli, p+"data"); v != "new" {
		t.Errorf("%q was written last", v)
	}
}
