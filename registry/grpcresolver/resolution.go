package grpcresolver

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/registry"
)

// The first attempt to follow a service has firstTry before RPCs are told why they wait. A later one has twice as
// long as the one before, up to lastTry, so that a service is reached in the end whose list takes long to read.
const (
	firstTry = 2 * time.Second
	lastTry  = 16 * time.Second
)

// resolution is the resolver of one connection.
type resolution struct {
	builder *builder
	service string
	cc      resolver.ClientConn
	log     *zap.Logger
	seed    maphash.Seed // of the order of its endpoints
	end     context.CancelFunc
	done    chan struct{} // closed when run has returned

	// ---- owned by run
	handed    []*registry.Instance // that gRPC has now
	reported  string               // the last error it was told, since there were none
	confirmed bool                 // etcd has been heard
}

// ResolveNow implements resolver.Resolver. It is a hint that a list may be old, and this one never is.
func (r *resolution) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. It waits until nothing of the resolution runs any more.
func (r *resolution) Close() {
	r.end()
	<-r.done
}

// run tells gRPC of the service's instances until ctx ends.
func (r *resolution) run(ctx context.Context) {
	defer close(r.done)
	view := r.open(ctx)
	if view == nil {
		return
	}
	defer view.Close()
	for s := range view.Changes(ctx) {
		r.take(s)
	}
}

// open returns a view of the service, however long that takes, or nil once ctx has ended.
func (r *resolution) open(ctx context.Context) *registry.View {
	waits := r.builder.opts.Retry.Backoff()
	failed := false
	for patience := firstTry; ; patience = min(2*patience, lastTry) {
		view, err := r.try(ctx, patience)
		switch {
		case err == nil:
			if failed {
				r.log.Info("instances are followed now")
			}
			return view
		case ctx.Err() != nil:
			return nil
		case !failed:
			r.log.Warn("instances cannot be followed yet", zap.Error(err))
			failed = true
		}
		r.bridge(err)
		if waits.Wait(ctx) != nil {
			return nil
		}
	}
}

func (r *resolution) try(ctx context.Context, patience time.Duration) (*registry.View, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return registry.Watch(ctx, r.builder.client, r.service, &r.builder.opts.View)
}

// bridge is for the time before the first snapshot: gRPC gets what an earlier connection had, or else the error.
func (r *resolution) bridge(err error) {
	if before := r.before(); len(before) > 0 {
		r.change(before)
	} else {
		r.report(err)
	}
}

// take tells gRPC what a snapshot has changed.
func (r *resolution) take(s registry.Snapshot) {
	next := ready(s.Instances)
	if s.Source == registry.Live {
		r.confirmed = true
	} else {
		next = withThoseBefore(next, r.before())
	}
	r.builder.memory.put(r.service, next)
	r.change(next)
	if len(next) == 0 {
		r.report(fmt.Errorf("grpcresolver: service %q has no ready instance (%s)", r.service, census(s)))
	}
}

// before is what only etcd's word can remove: what gRPC has or, until etcd is heard, what an earlier connection had.
func (r *resolution) before() []*registry.Instance {
	if len(r.handed) > 0 || r.confirmed {
		return r.handed
	}
	return r.builder.memory.get(r.service)
}

// change gives gRPC other instances, unless it has them. Its error asks for another list: there is none before the
// next snapshot.
func (r *resolution) change(next []*registry.Instance) {
	if slices.EqualFunc(next, r.handed, (*registry.Instance).Equal) {
		return
	}
	r.handed, r.reported = next, ""
	_ = r.cc.UpdateState(state(next, r.seed))
}

// report tells gRPC why there are no instances. A balancer that never had any fails RPCs with that text.
func (r *resolution) report(err error) {
	if text := err.Error(); text != r.reported {
		r.reported = text
		r.cc.ReportError(err)
	}
}
