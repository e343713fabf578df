package follow

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// receive takes in what the watches bring after the revision of the read, until something ends them.
func (v *view) receive(a *attempt, read int64) error {
	check := newTruthCheck(v.rng, len(v.content), read)
	defer check.stop()
	s := &stretch{floor: read, heard: v.heard.Get()}
	if v.rng.woven() {
		s.loom = newLoom(v.rng.size(), read, func(again bool) bool { return v.hub.prompt(v, a.stream, again) })
		s.loom.follow(a.confirmed, a.tally.opened, v.pulse.expected)
		defer s.loom.rest()
	}
	for {
		select {
		case cmd := <-v.commands:
			v.obey(cmd)
		case <-v.ctx.Done():
			return v.ctx.Err()
		case <-v.silent:
			return errSilent
		case <-check.due():
			check.start(v.ctx, v.hub.client, v.revision, v.content)
		case found := <-check.verdict:
			if err := check.settle(found, len(v.content)); err != nil {
				return err
			}
		case resp, open := <-a.responses:
			if !open {
				return errClosed
			}
			if err := v.handle(s, check, 0, &resp); err != nil {
				return err
			}
		case resp := <-a.merged:
			if err := v.handle(s, check, resp.watch, &resp.WatchResponse); err != nil {
				return err
			}
		case <-s.loom.due():
			if s.loom.repeat() {
				return errSilent
			}
		}
	}
}

// handle takes in one response, and all that follows from it.
func (v *view) handle(s *stretch, check *truthCheck, watch int, resp *clientv3.WatchResponse) error {
	d, err := v.take(s, watch, resp)
	v.reach()
	if err != nil {
		return err
	}
	return check.hurry(d, len(v.content))
}

// stretch is what a view remembers of one connection.
type stretch struct {
	floor   int64     // events up to it were in the read
	term    uint64    // raft's, as last heard
	member  uint64    // that last answered
	answers int       // about progress
	heard   int64     // what followers knew of when etcd was asked last
	behind  time.Time // since when answers name revisions below what is known
	loom    *loom     // of several watches that are one whole, or nil
}

// doubt is how likely it is that the client has connected anew, without a word, and to another past.
type doubt int

const (
	none   doubt = iota
	slight       // another member or another term: leaders change, and every view of every client sees it
	grave        // an answer was late
)

// take takes in one response of a watch, and reports the doubt that it raises.
func (v *view) take(s *stretch, watch int, resp *clientv3.WatchResponse) (doubt, error) {
	if err := typed(resp.Err()); err != nil {
		return none, err
	}
	h := resp.Header
	if h.GetClusterId() != v.cluster {
		return none, errWentBack
	}
	d := none
	if s.term != 0 && (s.term != h.GetRaftTerm() || s.member != h.GetMemberId()) {
		d = slight
	}
	s.term, s.member = h.GetRaftTerm(), h.GetMemberId()
	if s.loom != nil {
		graver, err := v.weave(s, watch, resp)
		return max(d, graver), err
	}
	if resp.IsProgressNotify() {
		s.answers++
		if s.answers%v.rng.size() != 0 {
			return d, nil // an answer comes on every watch, and counts when it has come on all
		}
		if v.pulse.answer(h.GetRevision()) {
			d = grave
		}
		return d, v.progress(s, h.GetRevision())
	}
	if len(resp.Events) == 0 {
		return d, nil
	}
	// The header may name a later revision than the events of a long catching-up reach.
	passed := v.revision
	v.revision = max(v.revision, resp.Events[len(resp.Events)-1].Kv.ModRevision)
	events, follows := v.news(resp.Events, s.floor, passed)
	if len(events) > 0 {
		v.tell(v.step(events))
	}
	v.pulse.event(v.revision)
	if !follows {
		return d, errDiverged
	}
	return d, nil
}

// news takes in events after the revision of the read, of a view that had passed a revision, and returns what is to be told.
func (v *view) news(events []*mvccpb.Event, floor, passed int64) (told []Event, follows bool) {
	if v.rng.tail {
		return raw(events, floor, passed)
	}
	return v.content.apply(events, floor, v.rng.deletions)
}

// progress takes in an answer. A member that was restored, or lags behind the one that was followed before, knows
// less than the view does, and goes on doing so; which of the two it is shows in the next read. Once, it is only the answer
// to a question that was asked before the view was read.
func (v *view) progress(s *stretch, revision int64) error {
	known := max(v.revision, s.heard)
	s.heard = v.heard.Get() // the next question is yet to be asked
	switch {
	case !v.rng.ordered(): // an answer on one watch says nothing about events of another
	case revision >= known:
		s.behind = time.Time{}
		v.revision = revision
	case s.behind.IsZero():
		s.behind = time.Now()
	case time.Since(s.behind) > silentFor:
		return errWentBack
	}
	return nil
}
