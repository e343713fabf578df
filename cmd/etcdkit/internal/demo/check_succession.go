package demo

import (
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// succession is the evidence that a dead leader was followed by another.
type succession struct {
	dead    string
	token   int64 // of its term, as etcd has it
	killed  time.Time
	leading said    // what the next one said
	reigns  []reign // of the election
	reports []report
}

// succeeded collects the evidence.
func succeeded(e evidence, dead string, token int64, killed time.Time) succession {
	s := succession{dead: dead, token: token, killed: killed, reigns: e.writes.reigns(orders.LeaderName), reports: e.writes.reports()}
	s.leading, _ = e.heard(func(s said) bool { return s.Kind == orders.Leading && s.at.After(killed) })
	return s
}

// check holds if etcd has ended the dead one's term and given the next to another, with a larger token; that one knows
// it, and leads: its report is in etcd, and none of the dead one's came later.
func (s succession) check() (string, error) {
	old, next := reignOf(s.reigns, s.token), after(s.reigns, s.token)
	switch {
	case old == nil || old.value != s.dead:
		return broken("%s never led with token %d", s.dead, s.token)
	case next == nil:
		return broken("nobody has led since")
	case next.value == s.dead:
		return broken("the dead %s leads again", s.dead)
	case next.token <= s.token:
		return broken("token %d came after %d", next.token, s.token)
	case s.leading.id != next.value || s.leading.Token != next.token:
		return broken("%s says that it leads with token %d; to etcd it is %s with %d", s.leading.id, s.leading.Token, next.value, next.token)
	}
	reported := 0
	for _, r := range s.reports {
		switch {
		case r.Token == next.token:
			reported++
		case r.Token == s.token && r.revision > next.from:
			return broken("%s, dead, has reported at revision %d", s.dead, r.revision)
		}
	}
	if reported == 0 {
		return broken("%s leads, and does nothing", next.value)
	}
	return fmt.Sprintf("%d → %d, %s after SIGKILL (TTL %s)",
		s.token, next.token, screen.Duration(next.since.Sub(s.killed)), seconds(orders.TTL)), nil
}

// reigning is the evidence that leaders came one at a time.
type reigning struct {
	terms   []said  // what services said when they began to lead
	reigns  []reign // of the election
	reports []report
}

// reigned collects the evidence.
func reigned(e evidence) reigning {
	r := reigning{reigns: e.writes.reigns(orders.LeaderName), reports: e.writes.reports()}
	for _, s := range e.said {
		if s.Kind == orders.Leading {
			r.terms = append(r.terms, s)
		}
	}
	return r
}

// check holds if the terms that services spoke of are etcd's, each with a larger token than the one before, and if every report was
// written by who led at that revision.
func (r reigning) check() (string, error) {
	if len(r.terms) == 0 || len(r.reports) == 0 {
		return broken("nobody has led")
	}
	tokens := ""
	var last int64
	for _, t := range r.terms {
		if t.Token <= last {
			return broken("%s began to lead with token %d, after %d", t.id, t.Token, last)
		}
		last = t.Token
		if own := reignOf(r.reigns, t.Token); own == nil || own.value != t.id {
			return broken("%s led with token %d by its own word only", t.id, t.Token)
		}
		if tokens != "" {
			tokens += " < "
		}
		tokens += fmt.Sprintf("%d", t.Token)
	}
	for _, w := range r.reports {
		if o := owner(r.reigns, w.revision); o == nil || o.token != w.Token || o.value != w.By {
			return broken("revision %d has a report by %s under token %d, which did not lead", w.revision, w.By, w.Token)
		}
	}
	return fmt.Sprintf("%s; all %d reports by leaders", tokens, len(r.reports)), nil
}
