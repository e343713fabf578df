package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// repricing is the evidence that a change of the configuration has reached everybody.
type repricing struct {
	ids      []string
	put      time.Time
	revision int64 // of the change, as etcd answered it
	discount int
	told     map[string]said // what each said of that revision
	entries  []entry         // the book
}

// repriced collects the evidence.
func repriced(e evidence, ids []string, put time.Time, revision int64, discount int) repricing {
	return repricing{
		ids: ids, put: put, revision: revision, discount: discount,
		told:    e.heardFrom(ids, orders.Priced, func(s said) bool { return s.Revision == revision }),
		entries: e.writes.entries(),
	}
}

// check holds if everybody has taken that revision, and sells at its price: in the book, not only by its word.
func (r repricing) check() (string, error) {
	var last time.Time
	sold := 0
	for _, id := range r.ids {
		told, ok := r.told[id]
		if !ok || told.Revision != r.revision || told.Discount != r.discount {
			return broken("%s has not taken revision %d", id, r.revision)
		}
		if told.at.After(last) {
			last = told.at
		}
		own := 0
		for _, e := range r.entries {
			switch {
			case e.By != id || e.revision <= r.revision:
			case e.Discount == r.discount:
				own++
			case own > 0 || e.at.After(told.at.Add(settling)):
				return broken("order %d was sold by %s at %d %%, long after it had taken %d %%", e.Number, id, e.Discount, r.discount)
			}
		}
		if own == 0 {
			return broken("%s has sold nothing at %d %%", id, r.discount)
		}
		sold += own
	}
	n := len(r.ids)
	return fmt.Sprintf("%d of %d in %s; %d orders at %d %%, by all", n, n, screen.Duration(last.Sub(r.put)), sold, r.discount), nil
}

// brokenRule is what an error says that names the rule which the bad change breaks.
const brokenRule = "must be 0 to 50 %"

// settling is how long after a process took new prices an order may still come out at the old ones: it was under way.
const settling = 5 * time.Second

// refusal is the evidence that a bad change of the configuration was refused by everybody.
type refusal struct {
	ids      []string
	put      time.Time
	revision int64 // of the bad change
	stored   int64 // the revision that etcd had under the key in the end: the bad one was there all the time
	rule     string
	kept     int // the discount of the last good one
	told     map[string]said
	entries  []entry
}

// refused collects the evidence.
func refused(e evidence, ids []string, put time.Time, revision int64) refusal {
	return refusal{
		ids: ids, put: put, revision: revision, rule: brokenRule, kept: nextDiscount,
		stored:  e.writes.present(orders.ConfigKey)[""].revision,
		told:    e.heardFrom(ids, orders.Refused, func(s said) bool { return s.at.After(put) }),
		entries: e.writes.entries(),
	}
}

// check holds if everybody has refused the change, naming the rule, and has gone on selling at the last good price.
func (r refusal) check() (string, error) {
	if r.stored != r.revision {
		return broken("etcd does not have the bad change, of revision %d, but revision %d", r.revision, r.stored)
	}
	var last time.Time
	sold := 0
	for _, id := range r.ids {
		told, ok := r.told[id]
		switch {
		case !ok:
			return broken("%s has not refused it", id)
		case !strings.Contains(told.Reason, r.rule):
			return broken("%s does not name the rule: %s", id, told.Reason)
		case told.Discount != r.kept:
			return broken("%s is at %d %%, not at %d %%", id, told.Discount, r.kept)
		}
		if told.at.After(last) {
			last = told.at
		}
		own := 0
		for _, e := range r.entries {
			if e.By != id || e.revision <= r.revision {
				continue
			}
			if e.Discount != r.kept {
				return broken("order %d was sold by %s at %d %%", e.Number, id, e.Discount)
			}
			if e.at.After(told.at) {
				own++
			}
		}
		if own == 0 {
			return broken("%s has sold nothing since", id)
		}
		sold += own
	}
	n := len(r.ids)
	return fmt.Sprintf("%d of %d in %s; %d orders still at %d %%", n, n, screen.Duration(last.Sub(r.put)), sold, r.kept), nil
}
