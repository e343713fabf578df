package owner_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// noticed is how long after the event an owner is told at the latest whose key etcd freed first.
const noticed = time.Second

// Defect P1 and C8: after the lease was revoked, concurrency.Mutex.Unlock returns nil.
func TestARevokedLeaseEndsTheOwnerWithinASecond(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		c, cli, name := etcdtest.Shared(t), k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, time.Minute)
		o := own(t, k, s, name)
		c.Revoke(s.Lease())
		lost(t, noticed, o)
		within(t, noticed, "telling the session", s.Context().Done())
		if cause := context.Cause(s.Context()); !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "revoked") {
			t.Errorf("the session's cause is %q, want one that says revoked", cause)
		}
		refuseWrites(t, cli, o.Guard(), name+"-data")
		for range 2 {
			if err := o.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
				t.Errorf("release after the lease was revoked: %v, want fence.ErrLost", err)
			}
		}
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		c, cli := etcdtest.Shared(t), etcdtest.Client(t)
		s := theirSession(t, cli, 60)
		m := concurrency.NewMutex(s, etcdtest.Prefix(t)+"name")
		if err := m.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Revoke(s.Lease())
		t.Logf("concurrency.Mutex, lease revoked: Unlock returns %v", m.Unlock(t.Context()))
	})
}

// The loss is noticed as early: before the key is watched at all, and after.
func TestAKeyDeletedByAStrangerEndsTheOwnerWithinASecond(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		for how, settled := range map[string]bool{"early": false, "settled": true} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				name := etcdtest.Prefix(t) + "name"
				var calls etcdtest.Calls
				cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
				o := own(t, k, open(t, cli, time.Minute), name)
				if settled {
					calls.WaitCount(t, soon, etcdtest.WatchResponse, 1)
				}
				k.remove(t, o.Guard().Key)
				lost(t, noticed, o)
				refuseWrites(t, cli, o.Guard(), name+"-data")
				for range 2 {
					if err := o.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
						t.Errorf("release after the key was deleted: %v, want fence.ErrLost", err)
					}
				}
			})
		}
	})
}

func TestAKeyDeletedUnderAnOwnerWhoWaitedEndsItToo(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, time.Minute)
		first := own(t, k, s, name)
		second := standInLine(t, k, s, name, 2)
		release(t, first)
		o := second.owns(t, soon)
		k.remove(t, o.Guard().Key)
		lost(t, noticed, o)
		release(t, own(t, k, s, name)) // and the session goes on
	})
}

func TestAReleaseThatFindsItsKeyGoneSaysLost(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		o := own(t, k, open(t, cli, time.Minute), name)
		k.remove(t, o.Guard().Key)
		for range 2 {
			if err := o.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
				t.Errorf("release: %v, want fence.ErrLost", err)
			}
		}
	})
}

func TestAClosedSessionEndsItsOwnersWithACause(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		s := open(t, cli, time.Minute)
		o := own(t, k, s, name)
		waiter := standInLine(t, k, s, name, 2)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if cause := lost(t, promptly, o); !errors.Is(cause, session.ErrClosed) {
			t.Errorf("cause %v, want session.ErrClosed", cause)
		}
		if err := waiter.fails(t, promptly); !errors.Is(err, session.ErrClosed) {
			t.Errorf("the waiter failed with %v, want session.ErrClosed", err)
		}
		lineIsEmpty(t, cli, name)
		if err := o.Release(t.Context()); !errors.Is(err, fence.ErrLost) {
			t.Errorf("release: %v, want fence.ErrLost", err)
		}
		if _, err := k.acquire(t.Context(), s, name); !errors.Is(err, session.ErrClosed) {
			t.Errorf("acquiring through a closed session: %v, want session.ErrClosed", err)
		}
	})
}

// Defect P5 and L1: concurrency.Session tells its owner after the next one owns, in two of three partitions.
func TestAnOwnerIsToldBeforeAnybodyElseCanOwn(t *testing.T) {
	for what, cut := range map[string]func(l *etcdtest.Link){
		"black hole":     func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"answers lost":   func(l *etcdtest.Link) { l.Blackhole(etcdtest.Responses) },
		"cut":            func(l *etcdtest.Link) { l.Cut() },
		"late, then cut": func(l *etcdtest.Link) { l.Drop(); l.Blackhole(etcdtest.Both) },
	} {
		t.Run(what, func(t *testing.T) {
			forEachCut(t, func(t *testing.T, k kind) {
				name := etcdtest.Prefix(t) + "name"
				link := etcdtest.Shared(t).Link(0)
				if what == "late, then cut" {
					link.Delay(etcdtest.Both, 100*time.Millisecond, 300*time.Millisecond)
				}
				s := open(t, k.dial(t, link.Endpoint()), shortTTL)
				o := own(t, k, s, name)
				told := make(chan time.Time, 1)
				context.AfterFunc(o.Context(), func() { told <- time.Now() })
				next := standInLine(t, k, open(t, k.client(t), time.Minute), name, 2)
				cut(link)
				next.owns(t, soon)
				at := etcdtest.Receive(t, time.Millisecond, "telling the old owner", told)
				if late := at.Sub(next.at); late >= 0 {
					t.Errorf("the old owner was told %v after the next one owned", late)
				}
				cause := lost(t, promptly, o)
				if !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "unreachable") {
					t.Errorf("the cause is %q, want one that says unreachable", cause)
				}
				if next.owner.Guard().Token <= o.Guard().Token {
					t.Errorf("token %d follows %d", next.owner.Guard().Token, o.Guard().Token)
				}
				refuseWrites(t, k.client(t), o.Guard(), name+"-data")
				// The session is lost, so nothing is waited for.
				released := beside(func() error { return o.Release(context.Background()) })
				if err := released.within(t, promptly, "release"); !errors.Is(err, fence.ErrLost) {
					t.Errorf("release: %v, want fence.ErrLost", err)
				}
			})
		})
	}
}
