package registry

import (
	"context"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/retry"
)

// keepAway sees to it that the key of a registration that has left goes, and stays away, while others keep its lease alive.
// There are two ways in which it would stay:
//
//   - etcd could not be reached when it was to be deleted. Reached again by the others' renewals, the lease would not expire.
//   - The request that created it was given up and made again, the key was deleted, and then the first request arrives: there is
//     no key, as it demands.
//
// It ends with the session. Nobody joins that any more, so that this cannot be more keys than a lease has.
func (s *sessions) keepAway(p *place) {
	p.retire()
	p.Go(func(ctx context.Context) { s.clear(ctx, p) })
}

// clear deletes the key whenever it is seen on the lease. Unless it may come late it is done when the key is not there.
func (s *sessions) clear(ctx context.Context, p *place) {
	own := newOwnKey()
	f := follow.Attach(s.client, follow.Keys(s.key).For(follow.Registry), own)
	defer f.Close()
	waits := retry.Policy{}.Backoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-own.moved:
		}
		found := own.last().entry
		if found == nil || found.Lease != int64(p.Lease()) {
			if !p.late {
				return
			}
			continue
		}
		// What it is deleted with is seen, and told by another token.
		for s.remove(ctx, p) != nil {
			if waits.Wait(ctx) != nil {
				return
			}
		}
	}
}
