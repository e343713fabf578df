package owner_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// Defect C9: a cancelled concurrency.Mutex.Lock hangs for as long as etcd does not answer, as does Unlock.
func TestACancelledAcquisitionReturnsPromptlyThoughEtcdIsUnreachable(t *testing.T) {
	forEachCut(t, func(t *testing.T, k kind) {
		for what, first := range map[string]bool{"entering the line": true, "waiting in line": false} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				name := etcdtest.Prefix(t) + "name"
				link := etcdtest.Shared(t).Link(0)
				s := open(t, k.dial(t, link.Endpoint()), time.Minute)
				var c *candidate
				if first {
					link.Blackhole(etcdtest.Both)
					c = stand(t.Context(), k, s, name)
				} else {
					own(t, k, open(t, k.client(t), 0), name)
					c = stand(t.Context(), k, s, name)
					etcdtest.WaitKeys(t, soon, k.client(t), name+"/", 2)
					link.Blackhole(etcdtest.Both)
				}
				c.waits(t)
				c.cancel(errEnough)
				if err := c.fails(t, promptly); !errors.Is(err, errEnough) {
					t.Errorf("cancelled: %v, want the cause", err)
				}
				if !first {
					// Leaving goes on beside: once etcd can be reached, nothing of it stays.
					link.Heal()
					etcdtest.WaitKeys(t, soon, k.client(t), name+"/", 1)
				}
			})
		}
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		link := etcdtest.Shared(t).Link(0)
		cli := link.Client()
		m := concurrency.NewMutex(theirSession(t, cli, 60), etcdtest.Prefix(t)+"name")
		link.Blackhole(etcdtest.Both)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		locked := make(chan error, 1)
		go func() { locked <- m.Lock(ctx) }()
		select {
		case err := <-locked:
			t.Logf("concurrency.Mutex, cancelled behind a black hole: Lock returns %v within a second", err)
		case <-time.After(time.Second):
			t.Log("concurrency.Mutex, cancelled behind a black hole: Lock has not returned after a second")
			if err := cli.Close(); err != nil {
				t.Log(err)
			}
			<-locked
		}
	})
}

func TestAReleaseReturnsPromptlyThoughEtcdIsUnreachableAndGoesOn(t *testing.T) {
	forEachCut(t, func(t *testing.T, k kind) {
		name := etcdtest.Prefix(t) + "name"
		link := etcdtest.Shared(t).Link(0)
		o := own(t, k, open(t, k.dial(t, link.Endpoint()), time.Minute), name)
		link.Blackhole(etcdtest.Both)

		ctx, cancel := context.WithCancelCause(t.Context())
		released := beside(func() error { return o.Release(ctx) })
		within(t, promptly, "the end of the context", o.Context().Done())
		etcdtest.Nothing(t, 10*time.Millisecond, "release", released.done)
		cancel(errEnough)
		if err := released.within(t, promptly, "release"); !errors.Is(err, errEnough) {
			t.Errorf("release: %v, want the cause", err)
		}
		again := beside(func() error { return o.Release(ctx) })
		if err := again.within(t, promptly, "a repeated release"); !errors.Is(err, errEnough) {
			t.Errorf("a repeated release: %v, want the cause", err)
		}
		link.Heal()
		lineIsEmpty(t, k.client(t), name)
		release(t, o) // and learns that it was given back
	})
}

// The deadline may come between two attempts, too.
func TestAReleaseWhoseDeadlineComesGoesOn(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		name := etcdtest.Prefix(t) + "name"
		s, calls := faulty(t)
		o := own(t, k, s, name)
		fault := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := o.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the deadline has come: %v", err)
		}
		fault.Remove()
		lineIsEmpty(t, k.client(t), name)
		release(t, o)
	})
}

func TestAReleaseWorksWithAContextThatHasEnded(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		o := own(t, k, open(t, cli, time.Minute), name)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// It is tried for a moment, which on a busy machine may be too short for an answer.
		began := time.Now()
		if err := o.Release(ctx); err != nil && (!errors.Is(err, context.Canceled) || time.Since(began) < promptly/3) {
			t.Errorf("release: %v after %v", err, time.Since(began))
		}
		lineIsEmpty(t, cli, name)
		release(t, o)
	})
}

// An attempt that timed out may still be on its way, and arrive when what a later attempt did has been undone, or done
// anew with the same key.
func TestAnAttemptThatArrivesLateStaysInNobodysWay(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		for what, acquiring := range map[string]bool{"to acquire": true, "to release": false} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				const delay = 2 * time.Second // longer than it takes to acquire and release through the other link
				prefix, oracle := etcdtest.Prefix(t), k.client(t)
				links := etcdtest.Links{etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)}
				var calls etcdtest.Calls
				s := open(t, links.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), time.Minute)
				etcdtest.Eventually(t, soon, "both links in use", func(ctx context.Context) error {
					_, err := s.Client().Get(ctx, prefix)
					if links[0].Open() == 0 || links[1].Open() == 0 {
						err = errors.New("not yet")
					}
					return err
				})
				// Calls take turns between the links, so the attempt that is wanted takes the slow one soon.
				slow := func() { links[0].Delay(etcdtest.Requests, delay, delay) }
				name := prefix
				for {
					name += "x"
					if acquiring {
						slow()
					}
					before := calls.Count("Txn")
					o := own(t, k, s, name)
					acquired := calls.Count("Txn")
					if !acquiring {
						slow()
					}
					release(t, o)
					if acquiring && acquired > before+1 || !acquiring && calls.Count("Txn") > acquired+1 {
						break
					}
					links[0].Heal()
					if acquiring {
						continue // three calls were made, for the release was late
					}
					if _, err := s.Client().Get(t.Context(), prefix); err != nil { // the third
						t.Fatal(err)
					}
				}
				newer := own(t, k, s, name)
				waiter := standInLine(t, k, open(t, oracle, time.Minute), name, 2)
				etcdtest.Nothing(t, delay, "the end of an acquisition that was made meanwhile", newer.Context().Done())
				if _, err := newer.Guard().Commit(newer.Context(), oracle, clientv3.OpPut(prefix+"data", "")); err != nil {
					t.Errorf("an acquisition that was made meanwhile: %v", err)
				}
				release(t, newer)
				release(t, waiter.owns(t, soon))
				lineIsEmpty(t, oracle, name)
			})
		}
	})
}
