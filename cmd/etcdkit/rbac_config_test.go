package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/config"
)

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
