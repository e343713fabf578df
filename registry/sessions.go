package registry

import (
	"context"
	"errors"
	"sync"

	"github.com/etcdkit/etcdkit/session"
)

// sessions are those that a registration has opened and not given back yet. The lease of a session that was lost may
// live on in etcd, and the instance's key with it. It must not be revoked before the key hangs on the next lease:
// for readers the instance would be gone in between.
type sessions struct {
	giving sync.WaitGroup // those on their way back

	mu     sync.Mutex
	open   []*session.Session // guarded by mu
	closed bool               // guarded by mu: nothing is added any more
}

// add takes in a session, or reports false if it comes too late and is to be closed by the caller.
func (s *sessions) add(sess *session.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open = append(s.open, sess)
	return true
}

// keepOnly gives back, beside whatever else goes on, all but one session. What cannot be given back while life lasts
// expires by itself.
func (s *sessions) keepOnly(life context.Context, kept *session.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, sess := range s.open {
		if sess != kept {
			s.giving.Go(func() { _ = sess.Close(life) })
		}
	}
	s.open = []*session.Session{kept}
}

// close gives all of them back, side by side, as [session.Session.Close] does, and lets none be added.
func (s *sessions) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	errs := make([]error, len(open))
	for i, sess := range open {
		s.giving.Go(func() { errs[i] = sess.Close(ctx) })
	}
	s.giving.Wait()
	return errors.Join(errs...)
}
