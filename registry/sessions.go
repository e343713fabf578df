package registry

import (
	"context"
	"errors"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// sessions are those that a registration has joined and not left yet. The lease of a session that was lost may live on in
// etcd, and the instance's key with it. It must not be revoked before the key hangs on the next lease: for readers
// the instance would be gone in between. So a registration leaves a lost session only then, and the last one to leave
// revokes the lease.
//
// They belong to the announcer, and to Close once that has ended.
type sessions struct {
	lessor *lessor
	client *clientv3.Client
	key    string
	held   []*place // the current one last
	giving sync.WaitGroup
}

// place is a registration's place on a shared session.
type place struct {
	*shared

	// late is set when a request that puts the key where there is none was given up, or sent again. It may arrive at any
	// time, also when the key was deleted.
	late bool
}

// next joins a session that is trusted.
func (s *sessions) next(ctx context.Context) (*place, error) {
	joined, err := s.lessor.join(ctx, s.key)
	if err != nil {
		return nil, err
	}
	p := &place{shared: joined}
	s.held = append(s.held, p)
	return p, nil
}

// keepOnly leaves all but one session, beside whatever else goes on. What cannot be given back while life lasts
// expires by itself.
func (s *sessions) keepOnly(life context.Context, kept *place) {
	if len(s.held) == 1 {
		return
	}
	for _, p := range s.held {
		if p != kept && p.leave(s.key) {
			s.giving.Go(func() { _ = p.Close(life) })
		}
	}
	s.held = []*place{kept}
}

// close leaves all of them, side by side, and with them goes what the registration has written; soon ends when that must be
// through, and ctx when the caller has no more patience, with which session.Close reckons by itself.
func (s *sessions) close(ctx, soon context.Context) error {
	errs := make([]error, len(s.held))
	for i, p := range s.held {
		s.giving.Go(func() { errs[i] = s.vacate(ctx, soon, p) })
	}
	s.held = nil
	s.giving.Wait()
	return errors.Join(errs...)
}

// vacate leaves one of them. The lease is revoked if nobody else hangs on it; else the key is deleted, and kept away for
// as long as the lease lives if it may come yet.
func (s *sessions) vacate(ctx, soon context.Context, p *place) error {
	if p.leaveLast(s.key) {
		return p.Close(ctx)
	}
	err := s.remove(soon, p)
	if err != nil || p.late {
		s.keepAway(p)
	}
	if p.leave(s.key) { // the others have left meanwhile
		return p.Close(ctx)
	}
	return err
}

// remove deletes the key if it is on a place's lease, thus written by this registration.
func (s *sessions) remove(ctx context.Context, p *place) error {
	_, err := call.Do(ctx, s.client, "delete the instance", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.LeaseValue(s.key), "=", p.Lease())).
			Then(clientv3.OpDelete(s.key)).
			Commit()
	})
	return err
}
