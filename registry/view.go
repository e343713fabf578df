package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// firstSync bounds the wait for the first snapshot, where ctx does not.
const firstSync = 10 * time.Second

var (
	// ErrNotCurrent is in the error of a view that is cut off from etcd.
	ErrNotCurrent = errors.New("registry: not known to be current")

	// ErrMalformed is in the error of a view that skips an instance because its value in etcd is not one.
	ErrMalformed = errors.New("registry: malformed instance skipped")
)

// ViewOptions of Watch. The zero value, and a nil *ViewOptions, mean the defaults.
type ViewOptions struct {
	// Prefix is what the keys of all services start with, without a slash at its end. Default "services".
	Prefix string

	// Logger is told when the view becomes stale or live, and of instances that are skipped. Default none.
	Logger *zap.Logger
}

// View is the instances of a service, kept up to date until it is closed. It is safe for concurrent use.
type View struct {
	service  string
	cell     *latest.Cell[published]
	follower *follow.Follower
	closed   atomic.Bool
}

// Watch returns a view of a service once it is live, also if there are no instances. ctx bounds that only; it
// gives up by itself after 10 s, or sooner if no endpoint accepts connections. Views of one service through one
// client share a watch. Close the view to end it.
//
// An error names the rule that the service or an option breaks, or the endpoints and how they failed.
func Watch(ctx context.Context, client *clientv3.Client, service string, opts *ViewOptions) (*View, error) {
	if opts == nil {
		opts = &ViewOptions{}
	}
	prefix, err := servicePrefix(opts.Prefix, service)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	r := newRoster(service, prefix, log.With(zap.String("service", service)))
	v := &View{service: service, cell: r.cell, follower: follow.Attach(client, follow.Prefix(prefix), r)}
	if err := v.sync(ctx, client, prefix, r.synced); err != nil {
		v.Close()
		return nil, fmt.Errorf("registry %q: %w", service, err)
	}
	return v, nil
}

// sync waits until the view is live. Beside that a key is read: a watch that cannot be opened is tried again and
// does not say why, while a read is refused by a server that is not there, or does not let this user in.
func (v *View) sync(ctx context.Context, client *clientv3.Client, prefix string, synced <-chan struct{}) error {
	_, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, prefix, clientv3.WithCountOnly())
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, firstSync)
	defer cancel()
	select {
	case <-synced:
		return nil
	case <-ctx.Done():
	}
	err = context.Cause(ctx)
	if why := v.follower.Status().Err; why != nil {
		err = fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// Snapshot returns the instances as they are known now. It does no I/O and does not allocate; what it returns is
// shared and must not be written to.
func (v *View) Snapshot() Snapshot { return v.stamped(v.cell.Ptr()) }

// Changes yields the current snapshot and then each newer one, also when only its Source has changed. Someone slow in
// taking them sees the newest and not those between. It ends when ctx does, or with the view.
func (v *View) Changes(ctx context.Context) iter.Seq[Snapshot] {
	return func(yield func(Snapshot) bool) {
		for p := range v.cell.Seq(ctx) {
			if !yield(v.stamped(&p)) {
				return
			}
		}
	}
}

// stamped is what was published, with the time at which it was last known to be current.
func (v *View) stamped(p *published) Snapshot {
	s := p.Snapshot
	s.SyncedAt = v.follower.Status().ProvenAt
	return s
}

// Err is nil while the view is live and every instance of the service is in it. Otherwise it says why the view
// is stale ([ErrNotCurrent]), and which instances are skipped and why ([ErrMalformed], a line each); or, after Close,
// [ErrClosed].
func (v *View) Err() error {
	if v.closed.Load() {
		return fmt.Errorf("registry %q: %w", v.service, ErrClosed)
	}
	err := v.cell.Ptr().skipped
	if why := v.follower.Status().Err; why != nil {
		err = errors.Join(fmt.Errorf("%w: %w", ErrNotCurrent, why), err)
	}
	if err != nil {
		err = fmt.Errorf("registry %q: %w", v.service, err)
	}
	return err
}

// Close ends the view and every iteration over its changes. Snapshot goes on returning the last one. Close is
// idempotent, and waits until nothing of the view runs any more.
func (v *View) Close() {
	v.closed.Store(true)
	v.follower.Close()
	v.cell.Close()
}
