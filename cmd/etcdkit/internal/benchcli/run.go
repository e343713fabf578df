package benchcli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// ownPrefix is what the keys of all runs are below.
	ownPrefix = "etcdkit/bench/"

	// ttl is that of the sessions, after which nothing is left of a process that was killed.
	ttl = 10 * time.Second

	// tidyWithin bounds the deletion of what was written.
	tidyWithin = 10 * time.Second
)

// bench is one run of the command.
type bench struct {
	*cli.Use
	*plan
	prefix string           // of this run's keys, with a slash at its end
	own    *session.Session // on whose lease those hang that are no recipe's
}

// run measures, prints, and deletes what was written.
func run(ctx context.Context, u *cli.Use, p *plan) (err error) {
	b := &bench{Use: u, plan: p, prefix: ownPrefix + strings.ToLower(rand.Text()[:13]) + "/"}
	var told []string
	for _, m := range p.chosen() {
		told = append(told, m.name)
	}
	u.Say("measuring %s: %s", strings.Join(told, ", "), p.said())
	u.Say("writing below %s only, all of which is deleted at the end", b.prefix)
	if b.own, err = session.Open(ctx, u.Client(), &session.Options{TTL: ttl}); err != nil {
		return err
	}
	var results []result
	defer func() {
		u.Errs.Status("deleting what was written")
		left := b.tidy(ctx)
		u.Errs.Status("")
		if !u.JSON && len(results) > 0 {
			show(u.Out, results)
		}
		switch {
		case left == nil, err != nil && errors.Is(left, rpctypes.ErrPermissionDenied): // nor was anything written
		case ctx.Err() != nil:
			u.Say("%s", cli.Plainly(left.Error())) // the exit code is that of the interruption
		default:
			err = errors.Join(err, left)
		}
	}()
	for _, m := range p.chosen() {
		r, err := b.measure(ctx, m)
		if r.count() > 0 {
			if results = append(results, r); u.JSON {
				u.Emit(r.facts())
			}
		}
		if err != nil {
			if errors.Is(err, exit.ErrInterrupted) {
				return err
			}
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// tidy deletes what was written, also when ctx has ended.
func (b *bench) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
	defer cancel()
	closed := b.own.Close(ctx) // its keys go with its lease
	_, deleted := b.Client().Delete(ctx, b.prefix, clientv3.WithPrefix())
	if deleted == nil {
		return nil // whether the lease is gone, too, does not matter: there is nothing on it
	}
	return fmt.Errorf("what is below %s could not be deleted, and goes with its leases in %v: %w", b.prefix, ttl, errors.Join(deleted, closed))
}
