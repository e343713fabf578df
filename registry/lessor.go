package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// maxKeys is how many registrations hang on one lease. etcd checks all keys of a lease at each renewal, and deletes
	// them in one transaction when it ends.
	maxKeys = 1000

	// maxAttaching is how many registrations of a lessor at a time open the watch of their own key.
	maxAttaching = 32
)

// lessors holds the lessor of every client, and kind of session, that has registrations.
var lessors = struct {
	sync.Mutex
	of map[kind]*lessor // guarded by Mutex, as are their users
}{of: map[kind]*lessor{}}

// kind is what registrations have in common that share sessions.
type kind struct {
	client *clientv3.Client
	opts   session.Options
}

// lessor opens the sessions that registrations share, one at a time, however many wait for it. A registration joins one
// with its key, and leaves it: the last to leave gives its lease back.
//
// No two registrations of the same key are on one lease, also if one of them is replaced and writes nothing: the lease
// tells which of them has written.
type lessor struct {
	kind
	users     int           // guarded by lessors
	attaching chan struct{} // holds a token for each that opens the watch of its own key

	mu      sync.Mutex
	open    []*shared     // guarded by mu: those that have keys, in the order in which they were opened
	opening *opening      // guarded by mu: nil if nobody waits
	next    chan struct{} // guarded by mu: closed when the next session is open
}

// shared is a session that several registrations hang on.
type shared struct {
	*session.Session
	lessor *lessor

	keys    map[string]struct{} // guarded by lessor.mu
	retired bool                // guarded by lessor.mu: nobody joins any more
}

// opening is the opening of a session, and who waits for it.
type opening struct {
	cancel  context.CancelFunc
	done    chan struct{}
	waiting []*applicant // guarded by lessor.mu
}

// applicant is a registration that waits for a session.
type applicant struct {
	key     string
	outcome chan outcome // has room for one
}

type outcome struct {
	joined *shared
	err    error
}

// acquireLessor returns the lessor of a kind, with one more user.
func acquireLessor(client *clientv3.Client, opts *session.Options) *lessor {
	k := kind{client: client}
	if opts != nil {
		k.opts = *opts
	}
	lessors.Lock()
	defer lessors.Unlock()
	l := lessors.of[k]
	if l == nil {
		l = &lessor{kind: k, attaching: make(chan struct{}, maxAttaching), next: make(chan struct{})}
		lessors.of[k] = l
	}
	l.users++
	return l
}

// release drops a user, which has left all its sessions.
func (l *lessor) release() {
	lessors.Lock()
	defer lessors.Unlock()
	l.users--
	if l.users == 0 {
		delete(lessors.of, l.kind)
	}
}

// opened is closed when a session is opened from now on.
func (l *lessor) opened() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// join takes key into a session that is trusted, has room, and has had no other registration of the same key; it waits
// for one to be opened if there is none. ctx bounds the wait. It may return a session although ctx has ended meanwhile.
func (l *lessor) join(ctx context.Context, key string) (*shared, error) {
	l.mu.Lock()
	for _, s := range slices.Backward(l.open) {
		if s.add(key) {
			l.mu.Unlock()
			return s, nil
		}
	}
	if l.opening == nil {
		l.begin()
	}
	o, a := l.opening, &applicant{key: key, outcome: make(chan outcome, 1)}
	o.waiting = append(o.waiting, a)
	l.mu.Unlock()
	select {
	case got := <-a.outcome:
		return got.joined, got.err
	case <-ctx.Done():
		return l.withdraw(ctx, o, a)
	}
}

// withdraw takes back an application, unless it was decided in the same moment. The last one calls the opening off, and
// waits for its end: nobody else would.
func (l *lessor) withdraw(ctx context.Context, o *opening, a *applicant) (*shared, error) {
	l.mu.Lock()
	n := slices.Index(o.waiting, a)
	if n < 0 {
		l.mu.Unlock()
		got := <-a.outcome
		return got.joined, got.err
	}
	o.waiting = slices.Delete(o.waiting, n, n+1)
	last := len(o.waiting) == 0
	if last && l.opening == o {
		l.opening = nil // who comes now must not share its failure
	}
	l.mu.Unlock()
	if last {
		o.cancel()
		<-o.done
	}
	return nil, fmt.Errorf("open a session: %w", call.Explain(ctx, l.client, context.Cause(ctx)))
}

// begin starts an opening. The caller holds mu.
func (l *lessor) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	o := &opening{cancel: cancel, done: make(chan struct{})}
	l.opening = o
	go func() {
		defer close(o.done)
		defer cancel()
		for more := true; more; {
			s, err := session.Open(ctx, l.client, &l.opts)
			more = l.settle(ctx, o, s, err)
		}
	}()
}

// settle lets those who wait join the session that was opened, or tells them why there is none. It reports whether some
// are left that did not fit in.
func (l *lessor) settle(ctx context.Context, o *opening, opened *session.Session, err error) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := o.waiting
	o.waiting = nil
	s := &shared{Session: opened, lessor: l, keys: map[string]struct{}{}}
	for _, a := range waiting {
		switch {
		case err != nil:
			a.outcome <- outcome{err: err}
		case s.add(a.key):
			a.outcome <- outcome{joined: s}
		default:
			o.waiting = append(o.waiting, a)
		}
	}
	switch {
	case err != nil:
	case len(s.keys) > 0:
		l.open = append(l.open, s)
		close(l.next)
		l.next = make(chan struct{})
	default: // all have withdrawn, or the session was lost before anybody could join
		l.mu.Unlock()
		_ = opened.Close(ctx)
		l.mu.Lock()
	}
	if len(o.waiting) == 0 && l.opening == o {
		l.opening = nil
	}
	return len(o.waiting) > 0
}

// add takes key in if that may be. The caller holds mu.
func (s *shared) add(key string) bool {
	if _, there := s.keys[key]; there || s.retired || len(s.keys) >= maxKeys || s.Context().Err() != nil {
		return false
	}
	s.keys[key] = struct{}{}
	return true
}

// retire lets nobody join any more.
func (s *shared) retire() {
	s.lessor.mu.Lock()
	defer s.lessor.mu.Unlock()
	s.retired = true
}

// leaveLast takes key out if it is the last one, and reports whether it was: then the caller closes the session. Else the
// key stays, so that nobody joins with the same one while it is being deleted.
func (s *shared) leaveLast(key string) bool {
	s.lessor.mu.Lock()
	defer s.lessor.mu.Unlock()
	return len(s.keys) == 1 && s.drop(key)
}

// leave takes key out, and reports whether it was the last one: then the caller closes the session.
func (s *shared) leave(key string) bool {
	s.lessor.mu.Lock()
	defer s.lessor.mu.Unlock()
	return s.drop(key)
}

// drop takes key out, and the session from those that may be joined if it was the last one. The caller holds mu.
func (s *shared) drop(key string) (last bool) {
	delete(s.keys, key)
	if len(s.keys) > 0 {
		return false
	}
	s.retired = true
	s.lessor.open = slices.DeleteFunc(s.lessor.open, func(o *shared) bool { return o == s })
	return true
}
