package owner_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// queue is a long line of candidates who release as soon as they own, and in which order they did.
type queue struct {
	t      *testing.T
	events clientv3.WatchChan // of the line

	all    sync.WaitGroup
	mu     sync.Mutex
	served []string // guarded by mu
	gone   []string // guarded by mu: etcd's own waiters that a compaction drove out of line
}

// theirsMark ends the names of those who wait through etcd's own package.
const theirsMark = " (etcd's)"

// newQueue returns the line of a name, which nobody stands in yet.
func newQueue(t *testing.T, oracle *clientv3.Client, name string) *queue {
	t.Helper()
	q := &queue{t: t, events: oracle.Watch(t.Context(), name+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())}
	etcdtest.Receive(t, soon, "the watch of the line", q.events)
	return q
}

// entered waits until somebody has come into line.
func (q *queue) entered() {
	q.t.Helper()
	for {
		for _, ev := range etcdtest.Receive(q.t, soon, "coming into line", q.events).Events {
			if ev.IsCreate() {
				return
			}
		}
	}
}

// join puts somebody at the end of the line. acquire returns what gives back.
func (q *queue) join(who string, acquire func() (release func() error, err error)) {
	q.t.Helper()
	q.all.Go(func() {
		release, err := acquire()
		if errors.Is(err, rpctypes.ErrCompacted) && strings.HasSuffix(who, theirsMark) {
			q.t.Logf("%s: %v", who, err) // etcd#21128: its watch, from a revision in the past, was not served yet
			q.mu.Lock()
			q.gone = append(q.gone, who)
			q.mu.Unlock()
			return
		}
		if err != nil {
			q.t.Errorf("%s: %v", who, err)
			return
		}
		q.mu.Lock()
		q.served = append(q.served, who)
		q.mu.Unlock()
		if err := release(); err != nil {
			q.t.Errorf("%s: release: %v", who, err)
		}
	})
	q.entered()
}

// Each turn of a long line must come, in order, whatever befalls those in it. With one client for all every waiter follows
// the whole line; with more of them those at the end watch a few ahead of them.
func TestALongLineIsServedInOrder(t *testing.T) {
	const length = 36
	forEach(t, func(t *testing.T, k kind) {
		for what, sharing := range map[string]int{"one client": length, "two clients": length / 2, "a client each": 1} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				c := etcdtest.New(t, nil)
				oracle := k.dial(t, c.Endpoints()...)
				name := etcdtest.Prefix(t) + "name"
				q := newQueue(t, oracle, name)
				first := own(t, k, open(t, oracle, time.Minute), name)
				q.entered()

				var (
					want    []string
					leaving []*candidate
					cli     *clientv3.Client
				)
				for i := range length {
					who := strconv.Itoa(i)
					if i%sharing == 0 {
						cli = k.dial(t, c.Endpoints()...)
					}
					s := open(t, cli, time.Minute)
					switch i {
					case 5, 25: // etcd's own, in the same line
						who += theirsMark
						m := concurrency.NewMutex(theirSession(t, k.dial(t, c.Endpoints()...), 60), name)
						q.join(who, func() (func() error, error) {
							return func() error { return m.Unlock(t.Context()) }, m.Lock(t.Context())
						})
					case 10, 30: // who leaves while the line is being served
						c := stand(t.Context(), k, s, name)
						leaving = append(leaving, c)
						q.entered()
						continue
					case 12, 32: // whose lease is revoked
						dead := stand(t.Context(), k, s, name)
						q.entered()
						c.Revoke(s.Lease())
						if err := dead.fails(t, noticed); !errors.Is(err, fence.ErrLost) {
							t.Errorf("the revoked one: %v, want fence.ErrLost", err)
						}
						continue
					default:
						q.join(who, func() (func() error, error) {
							o, err := k.acquire(t.Context(), s, name)
							if err != nil {
								return nil, err
							}
							return func() error { return o.Release(t.Context()) }, nil
						})
					}
					want = append(want, who)
				}
				for range 5 {
					put(t, oracle, name+"-noise", "")
				}
				c.Compact(0)
				for _, c := range leaving {
					c.cancel(errEnough)
				}
				release(t, first)
				for _, c := range leaving {
					if err := c.fails(t, soon); !errors.Is(err, errEnough) {
						t.Errorf("the one that leaves: %v, want the cause", err)
					}
				}
				etcdtest.Returns(t, 6*soon, "serving the line", q.all.Wait)
				want = slices.DeleteFunc(want, func(who string) bool { return slices.Contains(q.gone, who) })
				if !slices.Equal(q.served, want) {
					t.Errorf("served %v\nwant   %v", q.served, want)
				}
				lineIsEmpty(t, oracle, name)
			})
		}
	})
}
