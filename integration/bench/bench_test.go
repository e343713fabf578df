package bench_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// names of the two sides, as benchstat's -col /impl reads them.
const (
	ours   = "etcdkit"
	theirs = "concurrency"
)

// locker is one owner's lock: lock returns how to unlock.
type locker func(ctx context.Context) (unlock func(), err error)

// newLocker makes an owner with a session of its own.
func newLocker(b *testing.B, impl string, client *clientv3.Client, name string) locker {
	if impl == theirs {
		s, err := concurrency.NewSession(client)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close() })
		return func(ctx context.Context) (func(), error) {
			m := concurrency.NewMutex(s, name)
			if err := m.Lock(ctx); err != nil {
				return nil, err
			}
			return func() {
				if err := m.Unlock(context.WithoutCancel(ctx)); err != nil {
					b.Error(err)
				}
			}, nil
		}
	}
	m := lock.NewMutex(openSession(b, client), name)
	return func(ctx context.Context) (func(), error) {
		held, err := m.Lock(ctx)
		if err != nil {
			return nil, err
		}
		return func() {
			if err := held.Unlock(context.WithoutCancel(ctx)); err != nil {
				b.Error(err)
			}
		}, nil
	}
}

func openSession(b *testing.B, client *clientv3.Client) *session.Session {
	s, err := session.Open(b.Context(), client, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// lineOf is the name that a benchmark uses for itself.
func lineOf(b *testing.B) string { return strings.ReplaceAll(b.Name(), "/", "-") }

// BenchmarkUncontended is a lock taken and given back by its only user.
func BenchmarkUncontended(b *testing.B) {
	for _, impl := range []string{ours, theirs} {
		b.Run("impl="+impl, func(b *testing.B) {
			take := newLocker(b, impl, etcdtest.Client(b), lineOf(b))
			for b.Loop() {
				unlock, err := take(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				unlock()
			}
		})
	}
}

// BenchmarkContended is a lock that all owners want all the time, each through a client of its own. One operation is one
// acquisition, whoever's it is.
func BenchmarkContended(b *testing.B) {
	for _, owners := range []int{2, 8, 32, 128} {
		for _, impl := range []string{ours, theirs} {
			b.Run(fmt.Sprintf("owners=%d/impl=%s", owners, impl), func(b *testing.B) {
				takes := make([]locker, owners)
				for i := range takes {
					takes[i] = newLocker(b, impl, etcdtest.Client(b), lineOf(b))
				}
				contend(b, takes)
			})
		}
	}
}

// BenchmarkContendedOneClient is the same with all owners' sessions on one client.
func BenchmarkContendedOneClient(b *testing.B) {
	for _, owners := range []int{2, 8, 32, 128} {
		for _, impl := range []string{ours, theirs} {
			b.Run(fmt.Sprintf("owners=%d/impl=%s", owners, impl), func(b *testing.B) {
				client := etcdtest.Client(b)
				takes := make([]locker, owners)
				for i := range takes {
					takes[i] = newLocker(b, impl, client, lineOf(b))
				}
				contend(b, takes)
			})
		}
	}
}

// BenchmarkInProcess is a lock that 64 goroutines of one program want: through one session, as a program should, and
// through as many clients.
func BenchmarkInProcess(b *testing.B) {
	const goroutines = 64
	b.Run("through=session", func(b *testing.B) {
		take := newLocker(b, ours, etcdtest.Client(b), lineOf(b))
		contend(b, slices.Repeat([]locker{take}, goroutines))
	})
	b.Run("through=clients", func(b *testing.B) {
		takes := make([]locker, goroutines)
		for i := range takes {
			takes[i] = newLocker(b, ours, etcdtest.Client(b), lineOf(b))
		}
		contend(b, takes)
	})
}

// contend makes b.N acquisitions by all who take, all the time.
func contend(b *testing.B, takes []locker) {
	var (
		turns = make(chan struct{}) // one for each acquisition that is to be made
		going sync.WaitGroup
	)
	for _, take := range takes {
		going.Go(func() {
			for range turns {
				unlock, err := take(b.Context())
				if err != nil {
					b.Error(err)
					continue
				}
				unlock()
			}
		})
	}
	for range takes { // the views and watches of those who wait are open when the clock starts
		turns <- struct{}{}
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	going.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acquisitions/s")
}

// campaigner stands for an election and returns how to resign.
type campaigner func(ctx context.Context) (resign func(), err error)

func newCampaigner(b *testing.B, impl string, client *clientv3.Client, name string) campaigner {
	if impl == theirs {
		s, err := concurrency.NewSession(client)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close() })
		return func(ctx context.Context) (func(), error) {
			e := concurrency.NewElection(s, name)
			if err := e.Campaign(ctx, "bench"); err != nil {
				return nil, err
			}
			return func() {
				if err := e.Resign(ctx); err != nil {
					b.Error(err)
				}
			}, nil
		}
	}
	s := openSession(b, client)
	return func(ctx context.Context) (func(), error) {
		term, err := election.Campaign(ctx, s, name, "bench")
		if err != nil {
			return nil, err
		}
		return func() {
			if err := term.Resign(ctx); err != nil {
				b.Error(err)
			}
		}, nil
	}
}

// BenchmarkHandOver is the time from a leader's resigning to the knowledge of the next that it leads, with two
// candidates on a client each. p50-ns is the one to compare.
func BenchmarkHandOver(b *testing.B) {
	for _, impl := range []string{ours, theirs} {
		b.Run("impl="+impl, func(b *testing.B) {
			watch := etcdtest.Client(b)
			stand := [2]campaigner{}
			for i := range stand {
				stand[i] = newCampaigner(b, impl, etcdtest.Client(b), lineOf(b))
			}
			resign, err := stand[0](b.Context())
			if err != nil {
				b.Fatal(err)
			}
			type elected struct {
				at     time.Time
				resign func()
			}
			var took []time.Duration
			for i := 1; b.Loop(); i++ {
				b.StopTimer()
				next := make(chan elected, 1)
				go func() {
					resign, err := stand[i%2](b.Context())
					if err != nil {
						b.Error(err)
					}
					next <- elected{time.Now(), resign}
				}()
				waitForLine(b, watch, lineOf(b)+"/", 2)
				b.StartTimer()
				start := time.Now()
				resign()
				e := <-next
				took = append(took, e.at.Sub(start))
				resign = e.resign
			}
			resign()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
	}
}

// waitForLine returns when n stand in line, and the last of them has had the time to open its watch: how long that takes
// is not what is measured.
func waitForLine(b *testing.B, client *clientv3.Client, prefix string, n int) {
	etcdtest.WaitKeys(b, 10*time.Second, client, prefix, n)
	settled := time.NewTimer(20 * time.Millisecond)
	defer settled.Stop()
	<-settled.C
}
