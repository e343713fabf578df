package owner_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func TestOneOwnsAtATimeAndTokensRise(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		const owners, turns = 6, 5
		prefix := etcdtest.Prefix(t)
		name, counter := prefix+"name", prefix+"counter"
		var (
			inside atomic.Int32
			last   atomic.Int64
			all    sync.WaitGroup
		)
		work := func(s *session.Session) error {
			o, err := k.acquire(t.Context(), s, name)
			if err != nil {
				return err
			}
			if n := inside.Add(1); n != 1 {
				return fmt.Errorf("%d own at a time", n)
			}
			token := int64(o.Guard().Token)
			if before := last.Swap(token); token <= before {
				return fmt.Errorf("token %d came after %d", token, before)
			}
			// Read, add one, write: lost updates show at the end.
			resp, err := s.Client().Get(o.Context(), counter)
			if err != nil {
				return err
			}
			n := 0
			if resp.Count > 0 {
				n, err = strconv.Atoi(string(resp.Kvs[0].Value))
			}
			if err != nil {
				return err
			}
			if _, err := o.Guard().Commit(o.Context(), s.Client(), clientv3.OpPut(counter, strconv.Itoa(n+1))); err != nil {
				return err
			}
			inside.Add(-1)
			return o.Release(t.Context())
		}
		// Two sessions share a client, and two owners a session.
		var sessions []*session.Session
		for range owners / 4 {
			cli := k.client(t)
			sessions = append(sessions, open(t, cli, 0), open(t, cli, 0))
		}
		for i := range owners {
			all.Go(func() {
				for range turns {
					if err := work(sessions[i%len(sessions)]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		resp, err := sessions[0].Client().Get(t.Context(), counter)
		if err != nil || resp.Count != 1 || string(resp.Kvs[0].Value) != strconv.Itoa(owners*turns) {
			t.Errorf("the counter is %v, want %d (%v)", resp, owners*turns, err)
		}
		lineIsEmpty(t, sessions[0].Client(), name)
	})
}

func TestReleaseIsIdempotentAndReturnsItsFirstResult(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		o := own(t, k, open(t, cli, 0), name)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := o.Release(t.Context()); err != nil {
					t.Errorf("release: %v", err)
				}
			})
		}
		all.Wait()
		lineIsEmpty(t, cli, name)
		release(t, o)
		if cause := context.Cause(o.Context()); cause == nil || errors.Is(cause, fence.ErrLost) {
			t.Errorf("released, the context's cause is %v: it was not lost", cause)
		}
		refuseWrites(t, cli, o.Guard(), name+"-data")
	})
}

// Defect P2 and C7 (etcd#11360, etcd#11364, etcd#11391): two concurrency.Mutex values on one session both "hold".
func TestTwoAcquisitionsThroughOneSessionExcludeEachOther(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, 0)
		first := own(t, k, s, name)
		second := standInLine(t, k, s, name, 2)
		second.waits(t)
		release(t, first)
		o := second.owns(t, soon)
		if o.Guard() == first.Guard() || o.Guard().Token <= first.Guard().Token {
			t.Errorf("guard %v follows %v", o.Guard(), first.Guard())
		}
		release(t, o)
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		s := theirSession(t, etcdtest.Client(t), 5)
		name := etcdtest.Prefix(t) + "name"
		one, two := concurrency.NewMutex(s, name), concurrency.NewMutex(s, name)
		if err := one.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("concurrency.Mutex, held through the session already: a second TryLock returns %v", two.TryLock(t.Context()))
	})
}

// Defect P4 and C6 (etcd#22082, etcd#22123): a concurrency.Mutex whose Unlock is tried again after a lost reply
// deletes the newer acquisition that the same session has made meanwhile.
func TestARepeatedReleaseDeletesItsOwnAcquisitionOnly(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		name := etcdtest.Prefix(t) + "name"
		var calls etcdtest.Calls
		cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		s := open(t, cli, 0)
		first := own(t, k, s, name)

		// The reply is lost, and the repetition held up until the next acquisition is made.
		goOn := make(chan struct{})
		calls.Inject(etcdtest.Fault{Call: "Txn", After: true})
		again := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: goOn})
		released := beside(func() error { return first.Release(t.Context()) })
		etcdtest.Done(t, soon, "the second attempt to release", again.Hit())
		second := own(t, k, s, name)
		close(goOn)
		if err := released.within(t, soon, "release"); err != nil {
			t.Errorf("a release whose first reply was lost: %v", err)
		}
		release(t, first)
		if err := second.Context().Err(); err != nil {
			t.Errorf("the newer acquisition ended: %v", context.Cause(second.Context()))
		}
		if _, err := second.Guard().Commit(t.Context(), cli, clientv3.OpPut(name+"-data", "")); err != nil {
			t.Errorf("the newer acquisition is gone: %v", err)
		}
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		var calls etcdtest.Calls
		cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		s, name := theirSession(t, cli, 5), etcdtest.Prefix(t)+"name"
		m := concurrency.NewMutex(s, name)
		if err := m.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		calls.Inject(etcdtest.Fault{Call: "DeleteRange", After: true})
		failed := m.Unlock(t.Context())
		newer := concurrency.NewMutex(s, name)
		if err := newer.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		repeated := m.Unlock(t.Context())
		resp, err := cli.Get(t.Context(), newer.Key())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("concurrency.Mutex: Unlock: %v; repeated: %v; keys of the newer acquisition left: %d of 1", failed, repeated, resp.Count)
	})
}

// A session may use a key again, once etcd has said that it is gone. The create revision tells the acquisitions apart.
func TestAnAcquisitionOnAKeyThatWasUsedBeforeIsANewOne(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, time.Minute)
		var before []owner
		for range 3 {
			o := own(t, k, s, name)
			for _, old := range before {
				if o.Guard().Token <= old.Guard().Token {
					t.Errorf("guard %v follows %v", o.Guard(), old.Guard())
				}
				refuseWrites(t, cli, old.Guard(), name+"-data")
				release(t, old)
			}
			if _, err := o.Guard().Commit(o.Context(), cli, clientv3.OpDelete(name+"-none")); err != nil {
				t.Errorf("the newest acquisition: %v", err)
			}
			release(t, o)
			before = append(before, o)
		}
		// A key that a stranger deleted is free too, and whoever owned through it is not confused by the next one.
		lostOne := own(t, k, s, name)
		k.remove(t, lostOne.Guard().Key)
		o := own(t, k, s, name)
		lost(t, noticed, lostOne)
		if err := lostOne.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
			t.Errorf("release of the lost one: %v, want fence.ErrLost", err)
		}
		again := own(t, k, s, name+"2")
		etcdtest.Nothing(t, noticed/2, "the end of the newer one", o.Context().Done())
		for _, o := range []owner{o, again} {
			if err := o.Context().Err(); err != nil {
				t.Errorf("%v ended: %v", o.Guard(), context.Cause(o.Context()))
			}
			release(t, o)
		}
	})
}

func TestANestedAcquisitionUnderTheOwnersContextFailsAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, 0)
		o := own(t, k, s, name)
		type key struct{}
		derived := context.WithValue(o.Context(), key{}, "derived")
		for _, ctx := range []context.Context{o.Context(), derived} {
			for _, s := range []*session.Session{s, open(t, cli, 0)} {
				c := stand(ctx, k, s, name)
				if err := c.fails(t, promptly); !errors.Is(err, k.reentrant) {
					t.Errorf("nested: %v, want %v", err, k.reentrant)
				}
			}
		}
		// Another name is another line, and so is the same name once it has been given back.
		release(t, own(t, k, s, name+"2"))
		inner, err := k.acquire(o.Context(), s, name+"/below")
		if err != nil {
			t.Fatalf("a name below: %v", err)
		}
		release(t, inner)
		release(t, o)
		release(t, own(t, k, s, name))
	})
}

// theirSession opens a session of etcd's own recipes.
func theirSession(t *testing.T, cli *clientv3.Client, ttl int) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Orphan)
	return s
}
