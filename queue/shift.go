package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/session"
)

// trade is what a worker does, apart from what an item is.
type trade struct {
	client      *clientv3.Client
	keys        layout
	opts        WorkOptions
	maxAttempts int
	producer    *producer
	log         *zap.Logger
	values      context.Context // of Work, without its end
	measures    *measures
	handle      func(ctx context.Context, c *claim) error // decodes the item and calls the user's handler
}

// shift is a worker's life on one session. Its goroutines:
//
//	tail      what happens in etcd ──► window
//	load      reads what the tail does not bring ──► window
//	hire      window, free slots ──► claims ──► handlers
//	handler   one a slot ──► settlements
//	settle    settlements, many at a time ──► etcd
//	undo      claims of workers that are gone ──► free jobs
type shift struct {
	*trade
	sess    *session.Session
	worker  string // the end of its key
	key     string
	created int64 // revision of that key
	tail    *follow.Follower
	ready   chan *claim // claimed and not begun
	life    context.Context
	end     context.CancelCauseFunc // of life: the key is gone, or the work is done

	load, hire, undo notice

	mu       sync.Mutex
	window   *window             // guarded by mu
	resets   int                 // guarded by mu: how often the window was begun anew
	active   map[string]*claim   // guarded by mu: claims of ours, by path
	strays   map[string]stray    // guarded by mu: claims in our name that we know nothing of
	blocked  map[string]struct{} // guarded by mu: hashes of ordering keys that are held, though it is not seen by whom
	inHand   int                 // guarded by mu: claims that handlers have, or are to have
	claiming int                 // guarded by mu: transactions that claim and are under way
	asked    int                 // guarded by mu: for how many jobs
	pace     pace                // guarded by mu: of the handlers
	stopped  atomic.Bool         // no handler is called any more
	settler  settler
}

// stray is a claim in our name that no answer has told us of: its reply was lost.
type stray struct {
	revision int64
	seen     time.Time
}

// notice wakes a goroutine that looks for itself what there is to do.
type notice chan struct{}

func (n notice) give() {
	select {
	case n <- struct{}{}:
	default:
	}
}

var errWorkerKey = fmt.Errorf("queue: the worker's key is gone: %w", fence.ErrLost)

// begin registers the worker of a session.
func (t *trade) begin(ctx context.Context, s *session.Session) (*shift, error) {
	sh := &shift{
		trade: t, sess: s,
		worker: strconv.FormatInt(int64(s.Lease()), 16),
		load:   make(notice, 1), hire: make(notice, 1), undo: make(notice, 1),
		window: newWindow(), active: map[string]*claim{}, strays: map[string]stray{}, blocked: map[string]struct{}{},
		ready: make(chan *claim, t.opts.slots()),
	}
	sh.key = t.keys.worker(sh.worker)
	host, _ := os.Hostname() // for people
	says, err := json.Marshal(crew{Host: host, PID: os.Getpid(), Slots: t.opts.Concurrency, Since: time.Now().UTC().Truncate(time.Millisecond)})
	if err != nil {
		return nil, fmt.Errorf("queue: worker's key: %w", err)
	}
	resp, err := call.Do(ctx, t.client, "register the worker", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.client.KV.Txn(ctx).Then(
			clientv3.OpPut(sh.key, string(says), clientv3.WithLease(s.Lease())),
			clientv3.OpGet(sh.key, clientv3.WithKeysOnly()),
		).Commit()
	})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	sh.created = resp.Responses[1].GetResponseRange().GetKvs()[0].CreateRevision // of a put before, if its reply was lost
	s.Saw(sh.created)
	sh.life, sh.end = context.WithCancelCause(s.Context())
	sh.settler.init(sh)
	return sh, nil
}

// run works until ctx ends, then drains; or until the session is lost. It returns when every handler has returned.
func (s *shift) run(ctx context.Context) error {
	var desk, hands sync.WaitGroup
	s.tail = follow.Attach(s.client, follow.Prefix(s.keys.line()).Tail().For(follow.Queue), (*tailing)(s))
	working, stop := context.WithCancel(s.life)
	context.AfterFunc(s.life, func() { s.each(func(c *claim) { c.end(context.Cause(s.life)) }) })
	desk.Go(func() { s.loading(s.life) })
	desk.Go(func() { s.undoing(s.life) })
	s.settler.start(&desk)
	var hiring sync.WaitGroup
	hiring.Go(func() { s.hiring(working) })
	for range s.opts.Concurrency {
		hands.Go(s.handler)
	}
	shifts.Add(s)
	defer shifts.Remove(s)
	select {
	case <-ctx.Done():
	case <-s.life.Done():
	}
	s.stopped.Store(true)
	stop()
	hiring.Wait()
	close(s.ready) // what handlers have not begun they give back
	s.drain(&hands)
	s.mu.Lock()
	s.sweep(time.Now().Add(strayAfter)) // no answer is under way any more
	s.mu.Unlock()
	s.settler.finish()
	cause := context.Cause(s.life)
	s.end(errShiftOver)
	s.tail.Close()
	desk.Wait()
	if errors.Is(cause, errShiftOver) {
		cause = nil
	}
	return cause
}

var errShiftOver = errors.New("queue: the worker has stopped")

// drain waits for the handlers, and after a while ends their contexts.
func (s *shift) drain(hands *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { hands.Wait(); close(done) }()
	if s.opts.DrainTimeout >= 0 {
		late := time.NewTimer(s.opts.DrainTimeout)
		defer late.Stop()
		select {
		case <-done:
			return
		case <-late.C:
			s.each(func(c *claim) { c.end(errDrained) })
		}
	}
	<-done
}

var errDrained = errors.New("queue: the worker is stopping and has waited for its DrainTimeout")

// each calls fn for every claim of ours.
func (s *shift) each(fn func(c *claim)) {
	s.mu.Lock()
	all := make([]*claim, 0, len(s.active))
	for _, c := range s.active {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		fn(c)
	}
}

// tailing is a shift as the tail's observer.
type tailing shift

// Changed takes in what has happened.
func (t *tailing) Changed(c follow.Change) {
	s := (*shift)(t)
	var lost []*claim
	gone := false
	s.mu.Lock()
	if c.Initial || c.Reset {
		s.window.reset(c.Revision)
		s.resets++
		s.load.give()
	} else {
		lost, gone = s.own(c)
		s.window.apply(s.keys, c)
		for _, l := range s.window.lanes {
			if l.hungry() {
				s.load.give()
			}
		}
		s.hire.give()
		if s.window.stale {
			s.undo.give()
		}
	}
	s.mu.Unlock()
	for _, c := range lost {
		c.lose(errClaimDeleted)
	}
	if gone {
		s.end(errWorkerKey)
		s.sess.Probe() // if the lease is gone, the session should not learn it last
	}
}

var errClaimDeleted = fmt.Errorf("queue: the claim was deleted by somebody else: %w", fence.ErrLost)

// own looks for what has become of our claims and of our key. The caller holds mu.
func (s *shift) own(c follow.Change) (lost []*claim, gone bool) {
	for _, e := range c.Events {
		if e.Key == s.key {
			gone = e.New == nil && e.Revision > s.created
			continue
		}
		path, ok := strings.CutPrefix(e.Key, s.keys.claims())
		if !ok {
			continue
		}
		mine := s.active[path]
		switch {
		case e.New == nil:
			delete(s.strays, path)
			if mine == nil || mine.token >= e.Revision {
				continue
			}
			mine.robbed = mine.robbed || !touches(c, s.keys.jobs()+path, e.Revision) // what follows is of another claim
			if !mine.settling {
				lost = append(lost, mine)
			}
		case string(e.New.Value) == s.worker && (mine == nil || mine.token != e.Revision):
			s.strays[path] = stray{e.Revision, time.Now()}
		}
	}
	return lost, gone
}

// touches reports whether a change writes or deletes a key at a revision.
func touches(c follow.Change, key string, revision int64) bool {
	return slices.ContainsFunc(c.Events, func(e follow.Event) bool { return e.Key == key && e.Revision == revision })
}

// Stale is of no matter: what is claimed is claimed by conditions.
func (t *tailing) Stale(error) {}

// Live neither.
func (t *tailing) Live() {}

// loading reads what the tail does not bring.
func (s *shift) loading(ctx context.Context) {
	ld := loader{s.client, s.keys}
	surveyed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.load:
		}
		s.mu.Lock()
		resets := s.resets
		s.mu.Unlock()
		if resets == 0 {
			continue
		}
		if surveyed != resets {
			found, err := ld.survey(ctx)
			if err != nil {
				s.log.Warn("queue not read", zap.Error(err))
				if !rest(ctx, time.Second) {
					return
				}
				s.load.give()
				continue
			}
			s.mu.Lock()
			if s.resets == resets {
				s.window.begin(s.keys, found)
				surveyed = resets
				if s.window.peers[s.worker] == nil {
					s.end(errWorkerKey) // gone while we were not looking, or never there in a restored backup
				}
			}
			s.mu.Unlock()
			if surveyed == resets {
				s.verify(ctx)
			}
		}
		if err := s.readOn(ctx, ld); err != nil {
			s.log.Warn("queue not read", zap.Error(err))
			if !rest(ctx, time.Second) {
				return
			}
			s.load.give()
		}
		s.hire.give()
		s.undo.give()
	}
}

// readOn reads until every line's window is full, or its end is known.
func (s *shift) readOn(ctx context.Context, ld loader) error {
	for {
		s.mu.Lock()
		var l *lane
		for _, it := range s.window.lanes {
			if it.hungry() {
				l = it
				break
			}
		}
		if l == nil {
			s.mu.Unlock()
			return nil
		}
		l.reading = true
		from, span := l.reach, l.span
		s.mu.Unlock()
		part, err := ld.beyond(ctx, l.rank, from, span)
		s.mu.Lock()
		if err != nil {
			l.reading, l.missed = false, nil
			s.mu.Unlock()
			return err
		}
		s.window.merge(s.keys, l, part)
		s.astray(l)
		l.span = nextSpan(span, len(part.jobs))
		s.mu.Unlock()
		s.hire.give()
	}
}

// astray looks among what was read for claims in our name that no answer has told us of: the tail does not tell of those made before it
// began anew. The caller holds mu.
func (s *shift) astray(l *lane) {
	for _, e := range l.entries {
		if e.worker != s.worker {
			continue
		}
		if mine := s.active[e.path]; mine != nil && mine.token == e.claim {
			continue
		}
		if st := s.strays[e.path]; st.revision != e.claim {
			s.strays[e.path] = stray{e.claim, time.Now()}
		}
	}
}

// verify makes sure of our claims after an interruption, in which one may have been deleted unseen.
func (s *shift) verify(ctx context.Context) {
	var all []*claim
	s.each(func(c *claim) { all = append(all, c) })
	for len(all) > 0 {
		part := all[:min(len(all), 100)]
		all = all[len(part):]
		ops := make([]clientv3.Op, len(part))
		for i, c := range part {
			ops[i] = clientv3.OpGet(s.keys.claims()+c.path, clientv3.WithKeysOnly())
		}
		resp, err := call.Persist(ctx, s.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return s.client.KV.Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return // the session is over, or what is held will show when it is settled
		}
		for i, c := range part {
			kvs := resp.Responses[i].GetResponseRange().GetKvs()
			if (len(kvs) == 0 || kvs[0].CreateRevision != c.token) && !c.isSettling() {
				c.lose(errClaimDeleted)
			}
		}
	}
}

// rest waits, and reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
