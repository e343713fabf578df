package seecli

import (
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/queue"
)

// thing is what a key with a lease is.
type thing struct {
	key   string
	kind  string // lock, election, schedule, slot, instance, worker, report, queue, key
	name  string // of what
	what  string // in words
	owner string // who it tells of, or ""
	rank  int    // the smaller, the better it tells whose the lease is
}

// Ranks, by how well a key tells whose its lease is. A candidate says what it likes.
const (
	byProcess = iota
	byInstance
	byReport
	byCandidate
	byNothing
)

// thingOf tells what a key is by its form, its lease and its value; nil for a value that is not known.
func thingOf(kv *follow.Entry) thing {
	key := string(kv.Key)
	t := thing{key: key, kind: "key", what: "a key of unknown form", rank: byNothing}
	process := func() {
		if o, ok := ownerOf(kv.Value); ok {
			t.owner, t.rank = o.String(), byProcess
		}
	}
	if of, rest, ok := cutAfter(key, queue.Root, slashes); ok {
		t.kind, t.name = "queue", of
		switch {
		case strings.HasPrefix(rest, "line/workers/"):
			t.kind, t.what = "worker", "works on queue "+of
			process()
			return t
		case strings.HasPrefix(rest, "pushed/"):
			t.what = "lets a producer push to queue " + of + " without doubling"
			return t
		case strings.HasPrefix(rest, "seen/"):
			t.what = fmt.Sprintf("remembers job %s of queue %s", strings.TrimPrefix(rest, "seen/"), of)
			return t
		}
	}
	if of, rest, ok := cutAfter(key, configRoot, slashes); ok && strings.HasPrefix(rest, "report/") {
		id := strings.TrimPrefix(rest, "report/")
		t.kind, t.name, t.what, t.owner, t.rank = "report", of, fmt.Sprintf("reports what %s runs of %s", id, of), id, byReport
		return t
	}
	if i := instanceOf(key, kv.Value); i != nil {
		t.kind, t.name, t.rank = "instance", i.Service, byInstance
		t.owner = fmt.Sprintf("%s %s %s", i.Service, i.ID, i.Addr)
		t.what = fmt.Sprintf("instance %s of service %s at %s, %s", i.ID, i.Service, i.Addr, i.State)
		return t
	}
	if name, numbered, ok := placeOf(key, kv.Lease); ok {
		l := readLine(name, []*follow.Entry{kv})
		t.kind, t.name = "lock", name
		switch l.kind {
		case election, schedule:
			t.kind = l.kind
		}
		t.what = t.label()
		process()
		switch {
		case t.owner != "" || len(kv.Value) == 0:
		case t.kind == election:
			t.owner, t.rank = string(kv.Value), byCandidate
		}
		if t.owner == "" && !numbered {
			t.owner, t.rank = otherClient, byCandidate
		}
		return t
	}
	if name, slot, ok := slotOf(key, kv.Lease); ok {
		t.kind, t.name, t.what = "slot", name, fmt.Sprintf("slot %d of %s", slot, name)
	}
	return t
}

// label names a line with what it is.
func (t *thing) label() string {
	if of, schedule, ok := driverOf(t.name); ok {
		return fmt.Sprintf("the drivers of schedule %s of queue %s", schedule, of)
	}
	return t.kind + " " + t.name
}

// cutAfter cuts what follows a root at the first sep.
func cutAfter(key, root, sep string) (before, after string, ok bool) {
	rest, ok := strings.CutPrefix(key, root)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, sep)
}

// stands says how a place stands in its line.
func (t *thing) stands(l line) {
	for i, p := range l.all() {
		if string(p.Key) != t.key {
			continue
		}
		waits := len(l.waiting)
		switch {
		case !p.Owns:
			t.what = fmt.Sprintf("waits for %s, behind %d", t.label(), i)
		case waits == 0:
			t.what = holding(t.kind) + t.label()
		default:
			t.what = fmt.Sprintf("%s%s; %d behind it", holding(t.kind), t.label(), waits)
		}
	}
}

func holding(kind string) string {
	if kind == election {
		return "leads "
	}
	return "holds "
}

// best is the thing that tells best whose a lease is; false if there is none.
func best(things []thing) (thing, bool) {
	if len(things) == 0 {
		return thing{}, false
	}
	t := slices.MinFunc(things, func(a, b thing) int { return a.rank - b.rank })
	return t, t.rank < byNothing
}

// guess is how well a key, of which the value is not known yet, may tell whose its lease is.
func guess(key string, lease clientv3.LeaseID) int {
	name, _, placed := placeOf(key, int64(lease))
	_, _, report := cutAfter(key, configRoot, slashes)
	switch {
	case placed && name != "", strings.HasPrefix(key, queue.Root) && strings.Contains(key, workers):
		return byProcess
	case report:
		return byReport
	case strings.HasPrefix(key, queue.Root):
		return byNothing
	}
	return byInstance
}
