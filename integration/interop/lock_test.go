package interop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// locker is one way to lock a name.
type locker struct {
	name string
	// lock waits for the lock and returns what gives it back.
	lock func(ctx context.Context) (unlock func(context.Context) error, err error)
	// try fails with errTaken if the lock is held; nil if there is no such call.
	try func(ctx context.Context) (unlock func(context.Context) error, err error)
}

var errTaken = errors.New("taken")

// lockers returns all ways to lock a name, each with a session of its own.
func lockers(t *testing.T, name string) []locker {
	t.Helper()
	cli := etcdtest.Client(t)
	ours := lock.NewMutex(open(t, cli), name)
	theirs := func() *concurrency.Mutex { return concurrency.NewMutex(openTheirs(t, cli), name) }
	service := v3lockpb.NewLockClient(cli.ActiveConnection())
	return []locker{
		{
			name: "etcdkit",
			lock: func(ctx context.Context) (func(context.Context) error, error) {
				h, err := ours.Lock(ctx)
				if err != nil {
					return nil, err
				}
				return h.Unlock, nil
			},
			try: func(ctx context.Context) (func(context.Context) error, error) {
				h, err := ours.TryLock(ctx)
				if errors.Is(err, lock.ErrLocked) {
					return nil, errTaken
				}
				if err != nil {
					return nil, err
				}
				return h.Unlock, nil
			},
		},
		{
			name: "concurrency.Mutex",
			lock: func(ctx context.Context) (func(context.Context) error, error) {
				m := theirs()
				return m.Unlock, m.Lock(ctx)
			},
			try: func(ctx context.Context) (func(context.Context) error, error) {
				m := theirs()
				err := m.TryLock(ctx)
				if errors.Is(err, concurrency.ErrLocked) {
					return nil, errTaken
				}
				return m.Unlock, err
			},
		},
		{
			name: "v3lock",
			lock: func(ctx context.Context) (func(context.Context) error, error) {
				resp, err := service.Lock(ctx, &v3lockpb.LockRequest{Name: []byte(name), Lease: lease(t, cli)})
				if err != nil {
					return nil, err
				}
				return func(ctx context.Context) error {
					_, err := service.Unlock(ctx, &v3lockpb.UnlockRequest{Key: resp.Key})
					return err
				}, nil
			},
		},
	}
}

func TestLocksOfAllKindsExcludeEachOtherAndAreServedInOrder(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	prefix := etcdtest.Prefix(t)
	names := []string{prefix + "a", prefix + "b", prefix + "c"}
	for i := range names {
		all := lockers(t, names[i])
		all = append(all[i:], all[:i]...) // each is the first once
		t.Run(all[0].name+" first", func(t *testing.T) {
			unlock, err := all[0].lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				if l.try == nil {
					continue
				}
				if _, err := l.try(t.Context()); !errors.Is(err, errTaken) {
					t.Errorf("%s tries: %v, want that it is taken", l.name, err)
				}
			}
			type turn struct {
				unlock func(context.Context) error
				who    string
			}
			var next []<-chan turn
			for n, l := range all[1:] {
				next = append(next, began(t, cli, names[i], n+2, func() (turn, error) {
					unlock, err := l.lock(t.Context())
					return turn{unlock, l.name}, err
				}))
			}
			for n, c := range next {
				etcdtest.Nothing(t, 20*time.Millisecond, all[n+1].name, c)
				if err := unlock(t.Context()); err != nil {
					t.Error(err)
				}
				got := etcdtest.Receive(t, soon, all[n+1].name, c)
				if got.who != all[n+1].name {
					t.Errorf("%s came, want %s", got.who, all[n+1].name)
				}
				unlock = got.unlock
			}
			if err := unlock(t.Context()); err != nil {
				t.Error(err)
			}
			etcdtest.WaitKeys(t, soon, cli, names[i]+"/", 0)
			for _, l := range all {
				if l.try == nil {
					continue
				}
				unlock, err := l.try(t.Context())
				if err != nil {
					t.Fatalf("%s tries a free lock: %v", l.name, err)
				}
				if err := unlock(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Documented: towards etcd's own recipes, which count everything below a name, a lock is in the way of those above it.
func TestTowardsConcurrencyALockBelowIsInTheWay(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"orders"
	below, err := lock.NewMutex(open(t, cli), name+"/42").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	theirs := concurrency.NewMutex(openTheirs(t, cli), name)
	if err := theirs.TryLock(t.Context()); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("concurrency.Mutex: %v, want ErrLocked", err)
	}
	ours, err := lock.NewMutex(open(t, cli), name).TryLock(t.Context())
	if err != nil {
		t.Errorf("ours: %v", err)
	} else if err := ours.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
	if err := below.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestInspectShowsThoseOfOtherKinds(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := openTheirs(t, cli)
	m := concurrency.NewMutex(s, name)
	if err := m.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	owners, err := lock.Inspect(t.Context(), cli, name)
	if err != nil || len(owners) != 1 || owners[0].Key != m.Key() || owners[0].Lease != s.Lease() || owners[0].Who != "" {
		t.Errorf("%+v, %v, want the one holder", owners, err)
	}
}
