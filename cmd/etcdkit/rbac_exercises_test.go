package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
	"github.com/etcdkit/etcdkit/config"
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

// A program follows one key.
func rbacFollow(ctx context.Context, a rbacActors) error {
	if _, err := a.root.Put(ctx, a.name, "1"); err != nil {
		return err
	}
	v, err := config.Open[int](ctx, a.user, a.name, nil)
	if err != nil {
		return err
	}
	defer v.Close()
	if _, err := a.root.Put(ctx, a.name, "2"); err != nil {
		return err
	}
	if err := rbacFirst(ctx, v.Changes(ctx), func(s config.Snapshot[int]) bool { return s.Value == 2 }); err != nil {
		return err
	}
	p := config.NewProvider(a.user, a.name)
	_, err = p.ReadBytes()
	return err
}

// A program follows all that is below a prefix, as a tree and as a map, and one key of it.
func rbacFollowAll(ctx context.Context, a rbacActors) error {
	if _, err := a.root.Put(ctx, a.name+"/rate", "1"); err != nil {
		return err
	}
	tree, err := config.OpenTree[limits](ctx, a.user, []string{a.name}, nil)
	if err != nil {
		return err
	}
	defer tree.Close()
	m, err := config.OpenMap[int](ctx, a.user, a.name, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := a.root.Put(ctx, a.name+"/rate", "2"); err != nil {
		return err
	}
	if err := rbacFirst(ctx, tree.Changes(ctx), func(s config.Snapshot[limits]) bool { return s.Value.Rate == 2 }); err != nil {
		return err
	}
	a.name += "/rate"
	return rbacFollow(ctx, a)
}

// rbacTTL is that of instances, which must not seem to have died on a busy machine. A step of a rollout takes a second more.
const rbacTTL = 8 * time.Second

// rbacRolledOut rolls a value out, as somebody, to who reports.
func rbacRolledOut(ctx context.Context, s *config.Store, key, value string) error {
	r, err := s.Rollout(ctx, key, []byte(value), config.Plan{Steps: []config.Step{{Percent: 100}}})
	if err != nil {
		return err
	}
	if err := errors.Join(r.Pause(ctx, "lunch"), r.Continue(ctx)); err != nil {
		return err
	}
	state, err := r.Drive(ctx)
	if err != nil || state != config.Promoted {
		return fmt.Errorf("the rollout is %v: %w", state, err)
	}
	return nil
}

// An instance reports, is rolled out to, and goes.
func rbacCanary(ctx context.Context, a rbacActors) error {
	store, err := config.NewStore(a.root, nil)
	if err != nil {
		return err
	}
	if _, err := store.Publish(ctx, a.name, []byte("1"), config.PublishOptions{}); err != nil {
		return err
	}
	v, err := config.Open(ctx, a.user, a.name, &config.Options[int]{Identity: config.Identity{ID: "a", TTL: rbacTTL}})
	if err != nil {
		return err
	}
	defer v.Close()
	if err := rbacReports(ctx, a); err != nil {
		return err
	}
	if err := rbacRolledOut(ctx, store, a.name, "2"); err != nil {
		return err
	}
	return rbacFirst(ctx, v.Changes(ctx), func(s config.Snapshot[int]) bool { return s.Value == 2 })
}

// rbacReports waits until the instance of a key reports.
func rbacReports(ctx context.Context, a rbacActors) error {
	a.name = "etcdkit/config/" + a.name + "//report"
	return rbacQueued(ctx, a, 1)
}

// rbacKey is the key of an exercise that has one, or many.
func rbacKey(a rbacActors, many bool) (key, environment string) {
	if many {
		return a.name + "/level", a.name
	}
	return a.name, ""
}

// Who audits reads all there is of a key.
func rbacAudit(many bool) func(ctx context.Context, a rbacActors) error {
	return func(ctx context.Context, a rbacActors) error {
		key, environment := rbacKey(a, many)
		writes, err1 := config.NewStore(a.root, nil)
		s, err2 := config.NewStore(a.user, &config.StoreOptions{Environment: environment})
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		var last config.Version
		for _, value := range []string{"1", "2"} {
			var err error
			if last, err = writes.Publish(ctx, key, []byte(value), config.PublishOptions{}); err != nil {
				return err
			}
		}
		_, err1 = s.Get(ctx, key)
		_, err2 = s.History(ctx, key, 0)
		_, err3 := s.Diff(ctx, key, 1, 2)
		_, err4 := s.Version(ctx, key, 1)
		_, err5 := s.VersionAt(ctx, key, time.Now())
		_, err6 := s.Status(ctx, key)
		if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil || !many {
			return err
		}
		_, err1 = s.Keys(ctx, "")
		_, err2 = s.At(ctx, "", last.Revision)
		return errors.Join(err1, err2, s.Export(ctx, "", &bytes.Buffer{}))
	}
}

// Who publishes writes, changes, deletes and goes back; and brings in and takes out a whole environment.
func rbacPublish(many bool) func(ctx context.Context, a rbacActors) error {
	return func(ctx context.Context, a rbacActors) error {
		key, environment := rbacKey(a, many)
		s, err := config.NewStore(a.user, &config.StoreOptions{Environment: environment, Keep: 2})
		if err != nil {
			return err
		}
		o := config.PublishOptions{Author: "ada"}
		_, err1 := s.Publish(ctx, key, []byte("1"), o)
		_, err2 := s.Update(ctx, key, func(old []byte) ([]byte, error) { return append(old, '0'), nil }, o)
		_, err3 := s.Delete(ctx, key, o)
		_, err4 := s.Rollback(ctx, key, 2, o)
		_, err5 := s.History(ctx, key, 0)
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil || !many {
			return err
		}
		var export bytes.Buffer
		if err := s.Export(ctx, "", &export); err != nil {
			return err
		}
		_, err1 = s.Publish(ctx, key+"2", []byte("1"), o)
		_, err2 = s.Import(ctx, "", strings.NewReader(export.String()), config.TransferOptions{Prune: true})
		return errors.Join(err1, err2)
	}
}

// Who rolls out brings a value to instances, takes another one back, and publishes over a third.
func rbacRollOut(many bool) func(ctx context.Context, a rbacActors) error {
	return func(ctx context.Context, a rbacActors) error {
		key, environment := rbacKey(a, many)
		s, err := config.NewStore(a.user, &config.StoreOptions{Environment: environment})
		if err != nil {
			return err
		}
		if err := rbacPublish(many)(ctx, a); err != nil {
			return err
		}
		v, err := config.Open(ctx, a.root, key, &config.Options[int]{Identity: config.Identity{ID: "a", TTL: rbacTTL}})
		if err != nil {
			return err
		}
		defer v.Close()
		of := a
		of.name = key
		if err := rbacReports(ctx, of); err != nil {
			return err
		}
		if err := rbacRolledOut(ctx, s, key, "2"); err != nil {
			return err
		}
		plan := config.Plan{Steps: []config.Step{{Percent: 100, Soak: time.Hour}}}
		r, err := s.Rollout(ctx, key, []byte("3"), plan)
		if err != nil {
			return err
		}
		if err := r.Abort(ctx, "no"); err != nil {
			return err
		}
		if _, err := s.Rollout(ctx, key, []byte("4"), plan); err != nil {
			return err
		}
		again, err := s.Resume(ctx, key, nil)
		if err != nil {
			return err
		}
		written, err := s.Publish(ctx, key, []byte("5"), config.PublishOptions{IgnoreRollout: true})
		if err != nil {
			return err
		}
		_, err = again.Drive(ctx)
		if !errors.Is(err, config.ErrAborted) && err != nil {
			return err
		}
		_, err = s.WaitApplied(ctx, key, written.Revision)
		return err
	}
}
