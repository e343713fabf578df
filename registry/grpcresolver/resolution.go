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
	handed   []*registry.Instance // that gRPC has now
	reported string               // the last error it was told, since there were none
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
	if len(r.handed) == 0 {
		r.handed = r.builder.memory.get(r.service)
		if len(r.handed) == 0 {
			r.report(err)
			return
		}
		r.hand()
	}
}

// take tells gRPC what a snapshot has changed.
func (r *resolution) take(s registry.Snapshot) {
	next := ready(s.Instances)
	if s.Source != registry.Live {
		next = withThoseBefore(next, r.handed)
	}
	if !slices.EqualFunc(next, r.handed, same) {
		r.handed = next
		r.builder.memory.put(r.service, next)
		r.hand()
	}
	if len(next) == 0 {
		r.report(fmt.Errorf("grpcresolver: service %q has no ready instance (%s)", r.service, census(s)))
	}
}

// hand gives gRPC the instances. Its error asks for another list, and there is none before the next snapshot.
func (r *resolution) hand() {
	r.reported = ""
	_ = r.cc.UpdateState(state(r.handed, r.seed))
}

// report tells gRPC why there are no instances. A balancer that never had any fails RPCs with that text.
func (r *resolution) report(err error) {
	if text := err.Error(); text != r.reported {
		r.reported = text
		r.cc.ReportError(err)
	}
}
