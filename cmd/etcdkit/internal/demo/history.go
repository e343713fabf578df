package demo

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// history is what etcd did, in the order of revisions. What follows replays it, and trusts nothing else.
type history []write

// revision is the newest one.
func (h history) revision() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].revision
}

// gap returns the first revision that is missing between the first one of a fresh etcd and the newest, or 0 if
// none is: then nothing that happened has been missed.
func (h history) gap() int64 {
	const first = 2 // a fresh etcd is at 1
	next := int64(first)
	for _, w := range h {
		if w.revision > next {
			return next
		}
		next = w.revision + 1
	}
	return 0
}

// below returns the writes of keys below a prefix.
func (h history) below(prefix string) history {
	var some history
	for _, w := range h {
		if strings.HasPrefix(w.key, prefix) {
			some = append(some, w)
		}
	}
	return some
}

// present returns the keys below a prefix that are there in the end, by what follows it.
func (h history) present(prefix string) map[string]write {
	keys := map[string]write{}
	for _, w := range h.below(prefix) {
		if w.deleted {
			delete(keys, strings.TrimPrefix(w.key, prefix))
		} else {
			keys[strings.TrimPrefix(w.key, prefix)] = w
		}
	}
	return keys
}

// reign is the time during which one key was the oldest in a line, and thus owned what the line is for.
type reign struct {
	key   string
	value string
	token int64 // the key's create revision
	from  int64 // the revision at which it became the oldest
	to    int64 // the revision at which it was deleted, or 0

	since time.Time // when from was seen
	until time.Time // when to was seen
}

// reigns replays a line: the keys below name/. It returns every time of owning, in order.
func (h history) reigns(name string) []reign {
	waiting := map[string]write{}
	var all []reign
	var current *reign
	for _, w := range h.below(name + "/") {
		if w.deleted {
			delete(waiting, w.key)
			if current != nil && current.key == w.key {
				current.to, current.until = w.revision, w.at
				all = append(all, *current)
				current = nil
			}
		} else {
			waiting[w.key] = w
		}
		if current == nil {
			if next, ok := oldest(waiting); ok {
				current = &reign{key: next.key, value: next.value, token: next.created, from: w.revision, since: w.at}
			}
		}
	}
	if current != nil {
		all = append(all, *current)
	}
	return all
}

func oldest(waiting map[string]write) (first write, ok bool) {
	for _, w := range waiting {
		if !ok || w.created < first.created {
			first, ok = w, true
		}
	}
	return first, ok
}

// owner returns who owned when the write of a revision was decided: just before it. It is nil for nobody.
func owner(reigns []reign, revision int64) *reign {
	for i, r := range reigns {
		if r.from < revision && (r.to == 0 || r.to >= revision) {
			return &reigns[i]
		}
	}
	return nil
}

// after returns the reign that came after the one of a token, or nil.
func after(reigns []reign, token int64) *reign {
	i := slices.IndexFunc(reigns, func(r reign) bool { return r.token == token })
	if i < 0 || i+1 == len(reigns) {
		return nil
	}
	return &reigns[i+1]
}

// reignOf returns the reign of a token, or nil.
func reignOf(reigns []reign, token int64) *reign {
	if i := slices.IndexFunc(reigns, func(r reign) bool { return r.token == token }); i >= 0 {
		return &reigns[i]
	}
	return nil
}

// entry is an order as it was written into the book.
type entry struct {
	orders.Order
	write
}

// entries returns all that was ever written into the book, unreadable and repeated entries included.
func (h history) entries() []entry {
	var all []entry
	for _, w := range h.below(orders.BookPrefix) {
		e := entry{write: w}
		// What cannot be read has the number 0, which no order has.
		_ = json.Unmarshal([]byte(w.value), &e.Order)
		all = append(all, e)
	}
	return all
}

// report is the leader's, as it was written once.
type report struct {
	orders.Report
	write
}

// reports returns every report that was written.
func (h history) reports() []report {
	var all []report
	for _, w := range h {
		if w.key != orders.ReportKey {
			continue
		}
		r := report{write: w}
		_ = json.Unmarshal([]byte(w.value), &r.Report) // unreadable, it has the token 0, which nobody has
		all = append(all, r)
	}
	return all
}
