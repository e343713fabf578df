package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

func rbacNamed(name string) roles.Params { return roles.Params{Name: name} }

// rbacExercises are all recipes, from one end to the other.
var rbacExercises = []rbacExercise{
	{"lock", rbacNamed, rbacLock},
	{"election", rbacNamed, rbacElection},
	{"line-observer", rbacNamed, rbacObserve},
	{"session", func(string) roles.Params { return roles.Params{} }, rbacSession},
	{"registry-instance", func(name string) roles.Params { return roles.Params{Name: name, ID: "a"} }, rbacInstance("")},
	{"registry-instance", func(name string) roles.Params { return roles.Params{Name: name, Prefix: "other/services"} }, rbacInstance("other/services")},
	{"registry-reader", rbacNamed, rbacReader},
	{"config-reader", rbacNamed, rbacFollow},
	{"config-reader", func(name string) roles.Params { return roles.Params{Name: name + "/"} }, rbacFollowAll},
	{"config-instance", func(name string) roles.Params { return roles.Params{Name: name, ID: "a"} }, rbacCanary},
	{"config-instance", rbacNamed, rbacCanary},
	{"config-auditor", rbacNamed, rbacAudit(false)},
	{"config-auditor", func(name string) roles.Params { return roles.Params{Name: name + "/"} }, rbacAudit(true)},
	{"config-publisher", rbacNamed, rbacPublish(false)},
	{"config-publisher", func(name string) roles.Params { return roles.Params{Name: name + "/"} }, rbacPublish(true)},
	{"config-rollout", rbacNamed, rbacRollOut(false)},
	{"config-rollout", func(name string) roles.Params { return roles.Params{Name: name + "/"} }, rbacRollOut(true)},
	{"queue-push", rbacNamed, rbacPush},
	{"queue-push-ids", rbacNamed, rbacPushIDs},
	{"queue-work", rbacNamed, rbacWork},
	{"queue-schedule", rbacNamed, rbacSchedule},
	{"queue-observer", rbacNamed, rbacLook},
	{"queue-admin", rbacNamed, rbacAdmin},
	{"topic-publisher", rbacNamed, rbacTopic},
	{"topic-subscriber", rbacNamed, rbacSubscribe},
}

// rbacFirst waits for the first value of a sequence that is wanted.
func rbacFirst[T any](ctx context.Context, all iter.Seq[T], wanted func(T) bool) error {
	for v := range all {
		if wanted(v) {
			return nil
		}
	}
	return errors.Join(errors.New("it has ended without what was waited for"), context.Cause(ctx))
}

// rbacClose closes what is left, for a moment.
func rbacClose(closing func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = closing(ctx) // what cannot be deleted any more expires
}

func rbacSessions(ctx context.Context, a rbacActors, n int) (all []*session.Session, closeAll func(), err error) {
	closeAll = func() {
		for _, s := range all {
			rbacClose(s.Close)
		}
	}
	for range n {
		s, err := session.Open(ctx, a.user, nil)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		all = append(all, s)
	}
	return all, closeAll, nil
}

// All kinds of lock, one after the other: somebody has it, somebody waits, and gets it.
func rbacLock(ctx context.Context, a rbacActors) error {
	s, done, err := rbacSessions(ctx, a, 2)
	if err != nil {
		return err
	}
	defer done()
	for _, of := range [][2]lock.Mutex{
		{lock.NewMutex(s[0], a.name), lock.NewMutex(s[1], a.name)},
		{lock.NewRWMutex(s[0], a.name).Reader(), lock.NewRWMutex(s[1], a.name).Writer()},
	} {
		h, err := of[0].Lock(ctx)
		if err != nil {
			return err
		}
		if _, err := of[1].TryLock(ctx); !errors.Is(err, lock.ErrLocked) {
			return fmt.Errorf("a held lock is tried: %w", err)
		}
		waits := make(chan error, 1)
		go func() {
			h, err := of[1].Lock(ctx)
			if err == nil {
				err = h.Unlock(ctx)
			}
			waits <- err
		}()
		if err := rbacQueued(ctx, a, 2); err != nil {
			return err
		}
		if err := errors.Join(h.Unlock(ctx), <-waits); err != nil {
			return err
		}
	}
	sem := lock.NewSemaphore(s[0], a.name, 3)
	for _, weight := range []int{1, 2} {
		h, err := sem.Acquire(ctx, weight)
		if err != nil {
			return err
		}
		if weight == 1 {
			if _, err := h.Slot(ctx); err != nil {
				return err
			}
		}
		if err := h.Unlock(ctx); err != nil {
			return err
		}
	}
	m, err := lock.NewMulti(s[0], a.name).Lock(ctx)
	if err != nil {
		return err
	}
	return m.Unlock(ctx)
}

// rbacQueued waits until so many are in line.
func rbacQueued(ctx context.Context, a rbacActors, n int) error {
	watch := a.root.Watch(ctx, a.name+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for range watch {
		owners, err := a.root.Get(ctx, a.name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if owners.Count >= int64(n) {
			return nil
		}
	}
	return context.Cause(ctx)
}

// Two campaign, the second is handed over to, past a third one.
func rbacElection(ctx context.Context, a rbacActors) error {
	s, done, err := rbacSessions(ctx, a, 3)
	if err != nil {
		return err
	}
	defer done()
	first, err := election.Campaign(ctx, s[0], a.name, "one")
	if err != nil {
		return err
	}
	if err := first.Proclaim(ctx, "one, still"); err != nil {
		return err
	}
	waits := make(chan error, 2)
	for i, value := range []string{"two", "three"} {
		go func() {
			term, err := election.Campaign(ctx, s[1+i], a.name, value)
			if err == nil {
				err = term.Resign(ctx)
			}
			waits <- err
		}()
		if err := rbacQueued(ctx, a, 2+i); err != nil {
			return err
		}
	}
	if all, err := election.Candidates(ctx, a.user, a.name); err != nil || len(all) != 3 {
		return fmt.Errorf("%d candidates: %w", len(all), err)
	}
	if err := first.TransferTo(ctx, "three"); err != nil {
		return err
	}
	if err := errors.Join(<-waits, <-waits); err != nil {
		return err
	}
	errLed := errors.New("led")
	leading, over := context.WithCancelCause(ctx)
	err = election.Run(leading, a.user, a.name, "four", nil, func(context.Context, *election.Term) error {
		over(errLed)
		return nil
	})
	if errors.Is(err, errLed) {
		return nil
	}
	return err
}

// Who looks on sees a leader, and another one.
func rbacObserve(ctx context.Context, a rbacActors) error {
	s, err := session.Open(ctx, a.root, nil)
	if err != nil {
		return err
	}
	defer rbacClose(s.Close)
	seen := make(chan string, 10)
	go func() {
		defer close(seen)
		for l, err := range election.Observe(ctx, a.user, a.name) {
			if err == nil {
				seen <- l.Value
			}
		}
	}()
	for _, value := range []string{"one", "two"} {
		term, err := election.Campaign(ctx, s, a.name, value)
		if err != nil {
			return err
		}
		for got := ""; got != value; {
			select {
			case got = <-seen:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		_, err1 := election.Current(ctx, a.user, a.name)
		_, err2 := election.Candidates(ctx, a.user, a.name)
		_, err3 := lock.Inspect(ctx, a.user, a.name)
		if err := errors.Join(err1, err2, err3, term.Resign(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func rbacSession(ctx context.Context, a rbacActors) error {
	s, err := session.Open(ctx, a.user, nil)
	if err != nil {
		return err
	}
	return s.Close(ctx)
}

// An instance comes, changes, is put back when it is deleted, drains and goes.
func rbacInstance(prefix string) func(ctx context.Context, a rbacActors) error {
	return func(ctx context.Context, a rbacActors) error {
		under := prefix
		if under == "" {
			under = "services"
		}
		key := under + "/" + a.name + "/a"
		r, err := registry.Register(ctx, a.user, registry.Instance{Service: a.name, ID: "a", Addr: "127.0.0.1:80"}, &registry.Options{Prefix: prefix})
		if err != nil {
			return err
		}
		defer rbacClose(r.Close)
		if err := r.Update(ctx, func(i *registry.Instance) { i.Zone = "eu" }); err != nil {
			return err
		}
		back := a.root.Watch(ctx, key, clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
		<-back
		if _, err := a.root.Delete(ctx, key); err != nil {
			return err
		}
		if _, ok := <-back; !ok {
			return context.Cause(ctx)
		}
		return errors.Join(r.Drain(ctx, 0), r.Close(ctx))
	}
}

// A caller sees an instance come and go.
func rbacReader(ctx context.Context, a rbacActors) error {
	v, err := registry.Watch(ctx, a.user, a.name, nil)
	if err != nil {
		return err
	}
	defer v.Close()
	r, err := registry.Register(ctx, a.root, registry.Instance{Service: a.name, ID: "a", Addr: "127.0.0.1:80"}, nil)
	if err != nil {
		return err
	}
	defer rbacClose(r.Close)
	if err := v.WaitRevision(ctx, r.Revision()); err != nil {
		return err
	}
	if _, err := registry.NewPicker(v, registry.RoundRobin, nil).Pick(""); err != nil {
		return err
	}
	if err := r.Close(ctx); err != nil {
		return err
	}
	return rbacFirst(ctx, v.Diffs(ctx), func(registry.Diff) bool { return len(v.Snapshot().Instances) == 0 })
}

// rbacTTL is that of instances, which must not seem to have died on a busy machine. A step of a rollout takes a second more.
const rbacTTL = 8 * time.Second
