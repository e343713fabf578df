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

	// lateAfter is how long a question is open for the next one to say that the answer is late. A prompt may have been sent just
	// before.
	lateAfter = askEvery*beatEvery - beatEvery/2

	// droppedAfter is how long, at least, an answer may be overtaken by the next question before it is no longer expected.
	droppedAfter = beatEvery / 2
)

// errNotSynced is the trouble of a view that has not been read yet.
var errNotSynced = errors.New("not synced yet")

// pulse is how current a view is, and how it is known. The view's goroutine, the hub's and followers share it.
//
// What is known is as old as the question: an answer proves that the view was current when the question was sent.
// Answers carry no number, and etcd may leave a question unanswered; but it answers in order. So an answer is taken for that to the
// oldest question that may still be answered, and never for one to a later question.
//
// Every second one question is asked. If the one before is open still, it is the same once more, and the answer is late: the first answer counts for
// the first asking, and no beat asks before the second answer has had its time. Prompts, which only views with streams of their own
// need, do not wait for that: so once one was dropped, each answer is taken for that to the question before, until there is a
// moment without questions. That makes the view look older than it is; if it is by more than a second, prompts wait for such a
// moment, too.
type pulse struct {
	mu       sync.Mutex // guards all below
	live     bool
	stream   int64         // number of the stream that the watches are on
	asked    []time.Time   // when the unanswered questions were sent, oldest first; zero for one that is to prove nothing
	doubtful int           // how many of the first of them were sent before the last answer came: they may have been dropped
	dropped  time.Time     // from when on these are taken for dropped
	took     time.Duration // how old the question is that the last answer was taken for
	late     bool          // the open question was asked more than once
	heard    time.Time     // when anything last came from the stream
	proven   time.Time     // when the view was last known to be current
	before   time.Time     // proven, before the view was last read
	revision int64         // at which it was
	trouble  error         // why it is not live
}

// readAt notes that the view was read, by a request sent at a time, and is live.
func (p *pulse) readAt(sent time.Time, revision, stream int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live, p.stream, p.trouble = true, stream, nil
	p.asked, p.doubtful, p.late = nil, 0, false
	p.before = p.proven
	p.heard, p.proven, p.revision = time.Now(), sent, revision
}

// failed notes that the view is not live, and reports whether it was asked for its progress not long ago.
func (p *pulse) failed(err error) (askedLately bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	askedLately = p.live && len(p.asked) > 0
	p.live, p.trouble = false, err
	p.asked, p.doubtful, p.late = nil, 0, false
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
	asked, late := p.take()
	if !asked.IsZero() && revision >= p.revision {
		p.proven, p.revision = asked, revision
	}
	return late
}

// answered is answer for a view of several watches, on one of which an answer has come: what it proves, if anything, shows
// when all watches have got as far. It was asked for at that time or later; zero if nothing can be said.
func (p *pulse) answered() (asked time.Time, late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take()
}

// prove notes that the view was current at a time, and a revision that it has reached.
func (p *pulse) prove(asked time.Time, revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven, p.revision = asked, max(p.revision, revision)
}

// take takes an answer for that to the oldest question. None is expected if it is to somebody else's question on the same
// stream. The caller holds mu.
func (p *pulse) take() (asked time.Time, late bool) {
	p.heard = time.Now()
	if len(p.asked) == 0 {
		return time.Time{}, false
	}
	asked, p.asked = p.asked[0], p.asked[1:]
	p.doubtful = len(p.asked)
	late, p.late = p.late, false
	if !asked.IsZero() {
		// The answers to the others are not longer on their way than this one was.
		p.took = p.heard.Sub(asked)
		p.dropped = p.heard.Add(max(p.took, droppedAfter))
		late = late || p.took > askEvery*beatEvery // and a prompt has come before the beat that would have said so
	}
	return asked, late
}

// forget gives up the questions that have been without an answer for too long. The caller holds mu.
func (p *pulse) forget(now time.Time) {
	if p.doubtful > 0 && !now.Before(p.dropped) {
		p.asked, p.doubtful = p.asked[p.doubtful:], 0
	}
}

// open reports whether an answer is expected. The caller holds mu.
func (p *pulse) open() bool { return len(p.asked) > p.doubtful }

// expected is how many answers may yet come.
func (p *pulse) expected() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// prompt reports whether a question is to be sent at once, and takes it for sent: if none is open, or it is to be asked again.
func (p *pulse) prompt(now time.Time, again bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(now)
	switch {
	case !p.live, p.open() && !again, p.doubtful > 0 && p.took > askEvery*beatEvery:
		return false
	}
	p.asked = append(p.asked, now)
	return true
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
	p.forget(now)
	switch open := p.open(); {
	case !p.live:
		return false, false, false
	case open && now.Sub(p.asked[p.doubtful]) > silentFor && now.Sub(p.heard) > silentFor:
		return false, false, true
	case !ask || p.doubtful > 0:
		return false, false, false
	case open && now.Sub(p.asked[p.doubtful]) > lateAfter:
		p.late = true
		p.asked = append(p.asked, time.Time{})
	default:
		p.asked = append(p.asked, now)
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

// lag is for how long a view, which was opened at a time, cannot be said to be current; 0 while it is live.
func (p *pulse) lag(now, opened time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.trouble == nil:
		return 0
	case p.proven.IsZero():
		return now.Sub(opened)
	}
	return now.Sub(p.proven)
}

func (p *pulse) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Err: p.trouble, ProvenAt: p.proven, ProvenBefore: p.before, Revision: p.revision}
}
