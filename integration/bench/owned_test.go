package bench_test

import (
	"context"
	"testing"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// BenchmarkOwned is each thing that can be owned, taken and given back by its only user, in a program that has installed no
// OpenTelemetry provider: run before and after a change to the instruments, it says what they cost. Compare the allocations;
// the time is that of two commits.
func BenchmarkOwned(b *testing.B) {
	of := func(take func(ctx context.Context) (*lock.Held, error)) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			held, err := take(ctx)
			if err != nil {
				return err
			}
			return held.Unlock(ctx)
		}
	}
	client := etcdtest.Client(b)
	s, name := openSession(b, client), lineOf(b)
	permits := lock.NewSemaphore(s, name+"-permits", 3)
	for what, once := range map[string]func(ctx context.Context) error{
		"mutex":     of(lock.NewMutex(s, name).Lock),
		"try":       of(lock.NewMutex(s, name).TryLock),
		"reader":    of(lock.NewRWMutex(s, name).Reader().Lock),
		"semaphore": of(func(ctx context.Context) (*lock.Held, error) { return permits.Acquire(ctx, 2) }),
		"multi": func(ctx context.Context) error {
			held, err := lock.NewMulti(s, name+"-a", name+"-b").Lock(ctx)
			if err != nil {
				return err
			}
			return held.Unlock(ctx)
		},
		"term": func(ctx context.Context) error {
			term, err := election.Campaign(ctx, s, name+"-term", "")
			if err != nil {
				return err
			}
			return term.Resign(ctx)
		},
		"session": func(ctx context.Context) error {
			one, err := session.Open(ctx, client, nil)
			if err != nil {
				return err
			}
			return one.Close(ctx)
		},
	} {
		b.Run("what="+what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := once(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
