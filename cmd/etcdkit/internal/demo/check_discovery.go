package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// registryPrefix is where etcd has the registrations.
const registryPrefix = "services/" + orders.Name + "/"

// discovery is the evidence that some processes have found each other.
type discovery struct {
	ids   []string          // those that should, in order
	since time.Time         // when the last of them was started, or woken
	etcd  map[string]write  // the registrations, by id
	views map[string]said   // when each saw just these
	calls map[[2]string]any // who was called by whom, by the word of the one called
}

// discovered collects the evidence, of what was told from since on.
func discovered(e evidence, ids []string, since time.Time) discovery {
	d := discovery{ids: ids, since: since, etcd: e.writes.present(registryPrefix), calls: map[[2]string]any{}}
	d.views = e.heardFrom(ids, orders.Peers, func(s said) bool { return s.at.After(since) && slices.Equal(s.IDs, ids) })
	for _, s := range e.said {
		if s.Kind == orders.Greeted {
			d.calls[[2]string{s.id, s.By}] = nil
		}
	}
	return d
}

// check holds if etcd has these registrations, each bound to a lease, every process has seen them, and every one has been
// called by every other at the address it registered.
func (d discovery) check() (string, error) {
	if len(d.etcd) != len(d.ids) {
		return broken("etcd has %d registrations, not %d", len(d.etcd), len(d.ids))
	}
	var last time.Time
	calls := 0
	for _, id := range d.ids {
		switch w, there := d.etcd[id]; {
		case !there:
			return broken("etcd has no registration of %s", id)
		case w.lease == 0:
			return broken("the registration of %s would outlive it: it is bound to no lease", id)
		}
		view, seen := d.views[id]
		if !seen {
			return broken("%s has not seen %s", id, strings.Join(d.ids, " "))
		}
		if view.at.After(last) {
			last = view.at
		}
		for _, caller := range d.ids {
			if caller == id {
				continue
			}
			if _, called := d.calls[[2]string{id, caller}]; !called {
				return broken("%s was never called by %s", id, caller)
			}
			calls++
		}
	}
	n := len(d.ids)
	return fmt.Sprintf("%d of %d see all in %s; %d of %d calls ok", n, n, screen.Duration(last.Sub(d.since)), calls, n*(n-1)), nil
}
