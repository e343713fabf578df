package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/latest"
)

var (
	// ErrNotCurrent is in the error of a view that is cut off from etcd.
	ErrNotCurrent = errors.New("registry: not known to be current")

	// ErrMalformed is in the error of a view that skips an instance because its value in etcd is not one.
	ErrMalformed = errors.New("registry: malformed instance skipped")

	// ErrHeld is in the error of a view that goes on listing instances that etcd has no more: see [ViewOptions.HoldOnMassLoss].
	ErrHeld = errors.New("registry: instances are kept that etcd has lost")

	// errUnlisted is why a view is not current for a moment.
	errUnlisted = errors.New("what it missed has been read, and is about to be listed")
)

// ViewOptions of Watch. The zero value, and a nil *ViewOptions, mean the defaults.
type ViewOptions struct {
	// Prefix is what the keys of all services start with, without a slash at its end. Default "services".
	Prefix string

	// Decoders read the values below the prefix: the first that does not refuse a value is taken. With several of them
	// a registry of another make moves over instance by instance. Views share a list only if they are given the very same
	// slice. Default [DecodeJSON] alone, which reads what Register and
	// etcd's naming/endpoints write.
	Decoders []Decoder

	// HoldOnMassLoss is the share of the instances that may vanish within half a minute without having said goodbye. If more of
	// them do, and at least three, those that vanish then are still listed, as [Snapshot.Held], until they are back, or etcd
	// says that somebody has deleted them while their leases live, or HoldFor has passed: that so many processes die at once is
	// less likely than that their way to etcd, or etcd itself, was in trouble. Default 0.5, at most 1; negative means never.
	HoldOnMassLoss float64

	// HoldFor is how long they are kept. Default 2 minutes.
	HoldFor time.Duration

	// CacheDir, if set, is a directory in which the view keeps a copy of its instances, in a file for each service. If etcd
	// does not answer when a view is opened it starts from the copy, with the Source [Disk]. Several processes may share
	// it. The copies are no more secret than what is in etcd; they are readable by this user alone.
	CacheDir string

	// Logger is told when the view becomes stale or live, and of instances that are skipped or held. Default none.
	Logger *zap.Logger
}

// View is the instances of a service, kept up to date until it is closed. It is safe for concurrent use.
type View struct {
	service *service
	cell    atomic.Pointer[latest.Cell[published]] // the service's, and after Close one of its own
	life    context.Context                        // ends with Close
	end     context.CancelFunc
	once    sync.Once
}

// Watch returns a view of a service once it is live, also if there are no instances.
//
// If etcd cannot be asked, because it is away or has lost its quorum, the view starts from what a single member
// knows (its Source is then [Stale]), or else from the copy in CacheDir ([Disk]), and becomes live as soon as etcd
// answers. That takes 3 s, half the time that ctx leaves, or less if no endpoint accepts connections. With neither of
// them it is an error, after 10 s at the most.
//
// ctx bounds the opening only. Views of one service through one client, with the same options, share a watch and a list.
// Close the view to end it.
//
// An error names the rule that the service or an option breaks, or the endpoints and how they failed.
func Watch(ctx context.Context, client *clientv3.Client, name string, opts *ViewOptions) (*View, error) {
	if opts == nil {
		opts = &ViewOptions{}
	}
	key, err := newServiceKey(client, name, opts)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	s, err := acquire(key, opts.Decoders)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", name, err)
	}
	v := &View{service: s}
	v.cell.Store(s.roster.cell)
	v.life, v.end = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		v.Close()
		return nil, fmt.Errorf("registry %q: %w", name, err)
	}
	return v, nil
}

// Snapshot returns the instances as they are known now. It does no I/O and does not allocate; what it returns is
// shared and must not be written to.
func (v *View) Snapshot() Snapshot {
	for {
		if s, newest := v.stamped(v.current()); newest {
			return s
		}
	}
}

// current is what is published now. It is another pointer whenever something else is.
func (v *View) current() *published { return v.cell.Load().Ptr() }

// Changes yields the current snapshot and then each newer one, also when only its Source has changed. Someone slow in
// taking them sees the newest and not those between. It ends when ctx does, or with the view.
func (v *View) Changes(ctx context.Context) iter.Seq[Snapshot] {
	return func(yield func(Snapshot) bool) {
		ctx, cancel := v.within(ctx)
		defer cancel()
		for p := range v.cell.Load().Ptrs(ctx) {
			s, newest := v.stamped(p)
			if newest && !yield(s) { // else the newer one comes at once
				return
			}
		}
	}
}

// within is ctx, ended also with the view.
func (v *View) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(v.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// stamped is what was published, with the time at which it was last known to be current: which is of what is published then, so that it can be
// said of the newest only.
func (v *View) stamped(p *published) (s Snapshot, newest bool) {
	s = p.Snapshot
	if p.read {
		status := v.service.follower.Status()
		s.SyncedAt = status.ProvenAt
		if p.Source != Live && status.Err == nil { // it has been read anew, and that is about to be published
			s.SyncedAt = status.ProvenBefore
		}
	}
	return s, p == v.current()
}

// WaitRevision waits until the view has everything up to a revision of etcd, as that of a [Registration] or of a write of the
// caller's own. ctx bounds it; its cause is returned. If nothing of the service changes it takes up to a second, until
// etcd next says how far it is.
func (v *View) WaitRevision(ctx context.Context, revision int64) error {
	both, cancel := v.within(ctx)
	defer cancel()
	if err := v.service.follower.Reached(both, revision); err != nil {
		if v.life.Err() != nil {
			err = ErrClosed
		}
		return v.failed(fmt.Errorf("wait for revision %d: %w", revision, err))
	}
	return nil
}

// Err is nil while the view is live and lists just what etcd has of the service. Otherwise it says why the view is not live
// ([ErrNotCurrent]), how many instances are held ([ErrHeld]), and which ones are skipped and why ([ErrMalformed], a line each);
// or, after Close, [ErrClosed].
func (v *View) Err() error {
	if v.life.Err() != nil {
		return v.failed(ErrClosed)
	}
	p := v.current()
	var errs []error
	why := v.service.follower.Status().Err
	if why == nil && p.Source != Live {
		why = errUnlisted
	}
	if why != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrNotCurrent, why))
	}
	if n := len(p.Held); n > 0 {
		errs = append(errs, fmt.Errorf("%w: %d of %d", ErrHeld, n, len(p.Instances)))
	}
	if err := errors.Join(append(errs, p.skipped)...); err != nil {
		return v.failed(err)
	}
	return nil
}

// Close ends the view and every iteration over its changes. Snapshot goes on returning the last one. Close is
// idempotent, and waits until nothing of the view runs any more that others do not share.
func (v *View) Close() {
	v.once.Do(func() {
		v.cell.Store(latest.New(*v.current()))
		v.end()
		v.service.release()
	})
}

func (v *View) failed(err error) error { return fmt.Errorf("registry %q: %w", v.service.name, err) }
