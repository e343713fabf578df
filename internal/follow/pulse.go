package follow

import (
	"errors"
	"sync"
	"time"
)

const (
	// beatEvery is how often a hub looks after its views, and askEvery how often, in beats, it asks etcd how far
	// their streams have got.
	beatEvery = 500 * time.Millisecond
	askEvery  = 2

	// silentFor is how long a question may stay unanswered, and nothing else be heard, before a stream is given up.
	// A frozen member is thus left two and a half seconds after it froze at the latest.
	silentFor = 1400 * time.Millisecond
)

// errNotSynced is the trouble of a view that has not been read yet.
var errNotSynced = errors.New("not synced yet")

// pulse is how current a view is, and how it is known. The view's goroutine, the hub's and followers share it.
//
// What is known is as old as the question: an answer proves that the view was current when the question was sent.
// Answers carry no number. So one question is open at a time; if it is asked once more, because the answer is late, the first
// answer counts for the first asking, and no other question is asked until the second answer has had its time.
type pulse struct {
	mu       sync.Mutex // guards all below
	live     bool
	stream   int64     // number of the stream that the watches are on
	asked    time.Time // when the open question was first sent; zero if none is open
	late     bool      // it was asked more than once
	muted    time.Time // until when nothing is asked
	heard    time.Time // when anything last came from the stream
	proven   time.Time // when the view was last known to be current
	revision int64     // at which it was
	trouble  error     // why it is not live
}

// readAt notes that the view was read, by a request sent at a time, and is live.
func (p *pulse) readAt(sent time.Time, revision, stream int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live, p.stream, p.trouble = true, stream, nil
	p.asked, p.late, p.muted = time.Time{}, false, time.Time{}
	p.heard, p.proven, p.revision = time.Now(), sent, revision
}

// failed notes that the view is not live, and reports whether it was asked for its progress not long ago.
func (p *pulse) failed(err error) (askedLately bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	askedLately = p.live && !p.asked.IsZero()
	p.live, p.trouble = false, err
	p.asked, p.late = time.Time{}, false
	return askedLately
}

// event notes that the stream brought something. It says nothing about how current the view is.
func (p *pulse) event(revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	p.revision = max(p.revision, revision)
}

// answer notes an answer about progress. It reports whether the answer was late: then the client may have
// connected anew meanwhile, without a word, and perhaps to another past.
func (p *pulse) answer(revision int64) (late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	if p.asked.IsZero() {
		return false // to somebody else's question on the same stream
	}
	if revision >= p.revision {
		p.proven, p.revision = p.asked, revision
	}
	if p.late {
		p.muted = p.heard.Add(p.heard.Sub(p.asked))
	}
	late = p.late
	p.asked, p.late = time.Time{}, false
	return late
}

// where returns the stream that a live view is on.
func (p *pulse) where() (stream int64, live bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stream, p.live
}

// beat is the hub's look at a view. With ask, it reports whether a question is wanted, and takes it for sent; late if it
// is the same one again. Silent reports a stream that is to be given up.
func (p *pulse) beat(now time.Time, ask bool) (asks, late, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := !p.asked.IsZero()
	switch {
	case !p.live:
		return false, false, false
	case open && now.Sub(p.asked) > silentFor && now.Sub(p.heard) > silentFor:
		return false, false, true
	case !ask || now.Before(p.muted):
		return false, false, false
	case open:
		p.late = true
	default:
		p.asked = now
	}
	return true, p.late, false
}

// on reports whether the view is live on a stream.
func (p *pulse) on(stream int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live && p.stream == stream
}

func (p *pulse) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

func (p *pulse) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Err: p.trouble, ProvenAt: p.proven, Revision: p.revision}
}
