package config

import (
	"errors"
	"fmt"
	"sync"
)

var errNobody = errors.New("the value has no Identity, and nobody to report to")

// speech is what an instance has said last, and why it is not well.
type speech struct {
	reporter *reporter // nil if there is nobody to report to

	mu     sync.Mutex // guards all below
	said   statement
	unwell error
	of     statement // what unwell is about: its State does not matter
}

// statement is what tells two reports of an instance apart.
type statement struct {
	state    ReportState
	revision int64
	rollout  string
	reason   string
	running  int64
}

// about is the statement's subject.
func (s statement) about(t statement) bool { return s.revision == t.revision && s.rollout == t.rollout }

// Report says how the program does with the value in use: an error, that it does not do well, which takes back a rollout that has
// brought the value; nil, that it does, which takes back what was said before, but no end of a rollout. It counts until another value is
// in use. It does not wait until anybody knows.
//
// It returns an error if the Value has no Identity and so nobody to report to. The text of err is seen by all who ask for the
// status of the key: it must not hold what is not to be logged.
func (v *Value[T]) Report(err error) error {
	if v.speech.reporter == nil {
		return fmt.Errorf("config %q: %w", v.name, errNobody)
	}
	v.speech.complain(err, v.current.Ptr().stated())
	return nil
}

// complain reports that the instance is not well with what it has stated, or nil, that it is.
func (s *speech) complain(err error, stated statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwell, s.of = err, stated
	s.state(stated)
}

// tell reports what an instance states.
func (s *speech) tell(stated statement) {
	if s.reporter == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(stated)
}

// state reports a statement, unless that was said before. The caller holds mu.
func (s *speech) state(stated statement) {
	if stated.state == Applied && s.unwell != nil && s.of.about(stated) {
		stated.state, stated.reason = Failed, s.unwell.Error()
	}
	if stated != s.said {
		s.said = stated
		s.reporter.say(stated)
	}
}

// stated is what an instance says of the state it is in.
func (s *state[T]) stated() statement {
	if errors.Is(s.doubt, ErrRefused) {
		return statement{Refused, s.tried.revision, s.tried.rollout, s.doubt.Error(), s.revision}
	}
	return statement{state: Applied, revision: s.revision, rollout: s.rollout, running: s.revision}
}
