package chaos_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// kind is one way to own.
type kind struct {
	name  string
	size  int
	weigh func(rng *rand.Rand) int // draws how much of it somebody takes
	slots bool                     // whether holders have numbers
	open  func(client *clientv3.Client, ttl time.Duration) locker
}

// locker is what a worker locks with.
type locker interface {
	Lock(ctx context.Context, name string, weight int) (hold, error)
	Close(ctx context.Context)
}

// hold is one acquisition.
type hold interface {
	Context() context.Context // ends when it is told of its loss
	Token() int64
	Commit(ctx context.Context, kv clientv3.KV, ops ...clientv3.Op) (*clientv3.TxnResponse, error)
	Unlock(ctx context.Context) error
}

// slotted is a hold that has a number.
type slotted interface {
	Slot(ctx context.Context) (int, error)
}

// permits is the size of the semaphore under test.
const permits = 3

var (
	mutex = kind{
		name: "Mutex", size: mutexSize, weigh: func(*rand.Rand) int { return mutexSize },
		open: ours(func(s session.Source, name string, _ int) locking { return lock.NewMutex(s, name).Lock }),
	}

	// tried is one that does not always wait.
	tried = kind{
		name: "Mutex", size: mutexSize, weigh: mutex.weigh,
		open: ours(func(s session.Source, name string, _ int) locking {
			m := lock.NewMutex(s, name)
			if rand.IntN(4) == 0 {
				return m.TryLock
			}
			return m.Lock
		}),
	}

	rwMutex = kind{
		name: "RWMutex", size: rwSize,
		weigh: func(rng *rand.Rand) int {
			if rng.IntN(5) < 2 {
				return rwSize
			}
			return 1
		},
		open: ours(func(s session.Source, name string, weight int) locking {
			if weight == rwSize {
				return lock.NewRWMutex(s, name).Writer().Lock
			}
			return lock.NewRWMutex(s, name).Reader().Lock
		}),
	}
	semaphore = kind{
		name: "Semaphore", size: permits, slots: true,
		weigh: func(rng *rand.Rand) int { return 1 + rng.IntN(permits) },
		open: ours(func(s session.Source, name string, weight int) locking {
			return func(ctx context.Context) (*lock.Held, error) {
				return lock.NewSemaphore(s, name, permits).Acquire(ctx, weight)
			}
		}),
	}

	term = kind{
		name: "Term", size: mutexSize, weigh: mutex.weigh,
		open: func(client *clientv3.Client, ttl time.Duration) locker {
			return &candidate{session.NewKeeper(client, &session.Options{TTL: ttl})}
		},
	}

	// kinds are those of ours.
	kinds = []kind{tried, rwMutex, semaphore, term}

	// guarded and unguarded are etcd's own mutex, with writes on the condition that its key is there, and with plain ones.
	guarded = kind{
		name: "concurrency.Mutex", size: mutexSize, weigh: mutex.weigh,
		open: func(client *clientv3.Client, ttl time.Duration) locker {
			return &theirLocker{client: client, ttl: ttl, guarded: true}
		},
	}
	unguarded = kind{
		name: "concurrency.Mutex without guard", size: mutexSize, weigh: mutex.weigh,
		open: func(client *clientv3.Client, ttl time.Duration) locker {
			return &theirLocker{client: client, ttl: ttl}
		},
	}
)

// locking is the Lock of one of ours.
type locking func(ctx context.Context) (*lock.Held, error)

// ourLocker locks through a session that is opened anew when one was lost.
type ourLocker struct {
	keeper *session.Keeper
	lock   func(s session.Source, name string, weight int) locking
}

func ours(lock func(session.Source, string, int) locking) func(*clientv3.Client, time.Duration) locker {
	return func(client *clientv3.Client, ttl time.Duration) locker {
		return &ourLocker{session.NewKeeper(client, &session.Options{TTL: ttl}), lock}
	}
}

func (l *ourLocker) Lock(ctx context.Context, name string, weight int) (hold, error) {
	held, err := l.lock(l.keeper, name, weight)(ctx)
	if err != nil {
		return nil, err
	}
	return ourHold{held}, nil
}

func (l *ourLocker) Close(ctx context.Context) { _ = l.keeper.Close(ctx) }

type ourHold struct{ *lock.Held }

func (h ourHold) Token() int64 { return int64(h.Guard().Token) }

func (h ourHold) Commit(ctx context.Context, kv clientv3.KV, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return h.Guard().Commit(ctx, kv, ops...)
}

// candidate leads elections.
type candidate struct{ keeper *session.Keeper }

func (c *candidate) Lock(ctx context.Context, name string, _ int) (hold, error) {
	sess, err := c.keeper.Live(ctx)
	if err != nil {
		return nil, err
	}
	t, err := election.Campaign(ctx, sess, name, "")
	if err != nil {
		return nil, err
	}
	return leading{t, sess.Client(), name}, nil
}

func (c *candidate) Close(ctx context.Context) { _ = c.keeper.Close(ctx) }

// leading is a term of an election.
type leading struct {
	*election.Term
	client *clientv3.Client
	name   string
}

func (l leading) Token() int64 { return int64(l.Guard().Token) }

func (l leading) Commit(ctx context.Context, kv clientv3.KV, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return l.Guard().Commit(ctx, kv, ops...)
}

// Unlock makes the last in line the leader, now and then; otherwise it resigns.
func (l leading) Unlock(ctx context.Context) error {
	if rand.IntN(3) == 0 {
		line, err := election.Candidates(ctx, l.client, l.name)
		if last := len(line) - 1; err == nil && last > 0 && l.TransferTo(ctx, line[last].Key) == nil {
			return nil
		}
	}
	return l.Resign(ctx)
}

// theirLocker locks through etcd's own session, opened anew when one was lost.
type theirLocker struct {
	client  *clientv3.Client
	ttl     time.Duration
	guarded bool
	session *concurrency.Session
}

func (l *theirLocker) Lock(ctx context.Context, name string, _ int) (hold, error) {
	if l.session != nil && l.session.Ctx().Err() != nil {
		l.session = nil
	}
	if l.session == nil {
		life, cancel := context.WithCancel(l.client.Ctx())
		stop := context.AfterFunc(ctx, cancel) // so that the grant can be given up
		s, err := concurrency.NewSession(l.client, concurrency.WithTTL(int(l.ttl/time.Second)), concurrency.WithContext(life))
		if err != nil || !stop() {
			cancel()
			return nil, context.Canceled
		}
		l.session = s
	}
	m := concurrency.NewMutex(l.session, name)
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	return &theirHold{m, l.session, theirTokens.Add(1), l.guarded}, nil
}

func (l *theirLocker) Close(context.Context) {
	if l.session != nil {
		l.session.Orphan()
	}
}

// theirTokens number the holders of etcd's own mutex, which has no tokens, by the return of Lock.
var theirTokens atomic.Int64

type theirHold struct {
	*concurrency.Mutex
	session *concurrency.Session
	token   int64
	guarded bool
}

func (h *theirHold) Context() context.Context { return h.session.Ctx() }

func (h *theirHold) Token() int64 { return h.token }

func (h *theirHold) Commit(ctx context.Context, kv clientv3.KV, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	if !h.guarded {
		return kv.Txn(ctx).Then(ops...).Commit()
	}
	resp, err := kv.Txn(ctx).If(h.IsOwner()).Then(ops...).Commit()
	if err == nil && !resp.Succeeded {
		err = fence.ErrLost
	}
	return resp, err
}
