package follow

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// promptAfter is how long, at least, a prompt has for its answer before etcd is asked again, and twice as long the next
	// time. etcd says nothing while a watch of the stream is catching up, which it looks after every 100 ms.
	promptAfter = 40 * time.Millisecond

	// mostPrompts is how many are in vain, one after the other, before a stream is given up. They take more than four seconds.
	mostPrompts = 8
)

// loom is what a view of several prefixes remembers of one connection: the order of what its watches bring, and how it has
// etcd say quickly that there is nothing older.
//
// An event that one watch has brought is held until the others have passed its revision. So etcd is asked for its progress at once: one
// question for all that has come until it is sent, and the next, if more has come since, when that one is answered. The
// view has a stream of its own, so that each answer on it is to one of its questions, and the accounts of other views are not
// confused by prompts that they know nothing of.
type loom struct {
	*weave
	prompt func(again bool) bool // sends a question, if none is open or it is asked again
	proofs []proof               // in order; not reached so far
	behind []time.Time           // by watch: since when its answers name revisions below what is known

	news  bool          // something has been held since the last question was sent
	first time.Duration // how long the first question after a silence has for its answer
	wait  time.Duration // how long the next one has
	again *time.Timer   // runs while something is held
	vain  int           // how often it has fired, and nothing was released
	runs  bool

	trust
}

// proof is what an answer proves once all watches have passed its revision: that the view was current at a time.
type proof struct {
	asked    time.Time // zero for none
	revision int64
	late     bool // the answer was, which is a doubt about all up to there
}

// newLoom returns the loom of a connection of so many watches, whose ranges were read at a revision.
func newLoom(watches int, read int64, prompt func(again bool) bool) *loom {
	l := &loom{
		weave:  newWeave(watches, read),
		prompt: prompt,
		behind: make([]time.Time, watches),
		trust:  newTrust(watches),
		first:  promptAfter,
		again:  time.NewTimer(time.Hour),
	}
	l.rest()
	return l
}

// rest says that nothing is held.
func (l *loom) rest() {
	l.again.Stop()
	l.runs, l.news, l.vain = false, false, 0
}

// due fires when a question has been without an answer that releases what is held.
func (l *loom) due() <-chan time.Time {
	if l == nil {
		return nil
	}
	return l.again.C
}

// press has etcd asked, if something is held, or answers are not believed, and no question is under way. Released says that something was
// released.
func (l *loom) press(released bool) {
	if !l.holds() && !l.doubting() {
		l.rest()
		return
	}
	if released || !l.runs {
		l.runs, l.vain, l.wait = true, 0, l.first
		l.again.Reset(l.wait)
	}
	if l.news && l.ask(false) {
		l.news = false
	}
}

// repeat asks again, and reports whether that has been in vain too often.
func (l *loom) repeat() (stuck bool) {
	if l.vain++; l.vain > mostPrompts {
		return true
	}
	if l.ask(true) {
		l.news = false
	}
	l.wait = min(2*l.wait, askEvery*beatEvery)
	l.again.Reset(l.wait)
	return false
}

// ask sends a question.
func (l *loom) ask(again bool) bool {
	l.look()
	return l.prompt(again)
}

// believe reports whether an answer on a watch is to be believed. If it is not another question follows.
func (l *loom) believe(watch int) bool {
	sure := l.trust.believe(watch)
	l.news = l.news || !sure
	return sure
}

// answered notes an answer on the first watch, to a question that was sent at asked or later.
func (l *loom) answered(asked time.Time, late bool, revision int64) {
	if !asked.IsZero() {
		l.first = min(max(promptAfter, 2*time.Since(asked)), askEvery*beatEvery)
	}
	if revision < l.passed[0] {
		asked = time.Time{} // it is of a member that lags behind, and proves nothing
	}
	l.proofs = append(l.proofs, proof{asked, revision, late})
}

// reached takes in the proofs that are, and reports whether one of them was late.
func (l *loom) reached(prove func(asked time.Time, revision int64)) (late bool) {
	for len(l.proofs) > 0 && l.proofs[0].revision <= l.complete {
		p := l.proofs[0]
		l.proofs = l.proofs[1:]
		late = late || p.late
		if !p.asked.IsZero() {
			prove(p.asked, p.revision)
		}
	}
	return late
}

// weave takes in one response of one of several watches that are one whole.
func (v *view) weave(s *stretch, watch int, resp *clientv3.WatchResponse) (doubt, error) {
	l, d := s.loom, none
	l.look()
	if resp.IsProgressNotify() {
		if err := v.passed(s, watch, resp.Header.GetRevision()); err != nil {
			return d, err
		}
	} else {
		if !l.bring(watch, resp.Events) {
			return d, errDiverged
		}
		l.news = l.news || l.holds()
	}
	before := l.complete
	events, follows := v.content.apply(l.release(), s.floor, v.rng.deletions)
	if !follows {
		// Perhaps in the midst of a revision: nobody is told, and what comes next is the difference to what they know.
		v.content.undo(events)
		return d, errDiverged
	}
	v.revision = max(v.revision, l.complete)
	if len(events) > 0 {
		v.tell(v.step(events))
	}
	v.pulse.event(v.revision)
	if l.reached(v.pulse.prove) { // after who follows was told, or the status would say more than they know
		d = grave // and not before: it is to be compared with etcd as of now
	}
	l.press(l.complete > before)
	return d, nil
}

// passed takes in an answer about progress on one of several watches. It comes on each of them; the first one's are counted.
func (v *view) passed(s *stretch, watch int, revision int64) error {
	l := s.loom
	known := l.passed[watch]
	if watch == 0 {
		asked, late := v.pulse.answered()
		l.answered(asked, late, revision)
		known = max(known, s.heard)
		s.heard = v.heard.Get() // the next question is yet to be asked
	}
	if l.believe(watch) {
		l.pass(watch, revision)
	}
	switch behind := &l.behind[watch]; {
	case revision >= known:
		*behind = time.Time{}
	case behind.IsZero():
		*behind = time.Now()
	case time.Since(*behind) > silentFor:
		return errWentBack
	}
	return nil
}
