package queue

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// windowJobs is how many unclaimed jobs of a priority a worker knows at least, where there are that many; it reads more when
// it is down to half of them, and forgets what is beyond twice as many.
const windowJobs = 1024

// window is what a worker knows of a queue: the head of every line, who works, and whether the queue is paused. It is fed with
// what the tail brings and with reads, and does no I/O. Whoever uses it holds the shift's lock.
//
// All jobs of a lane before its reach are known as of the last change that was applied; of what comes after, nothing is. So a job that was
// pushed late with an early clock is found where it belongs, and a job that gets free is there at once.
type window struct {
	ready   bool           // what was there before the tail has been read
	missed  []follow.Event // while it was not
	applied int64          // revision of the last change
	lanes   []*lane        // the highest priority first
	peers   map[string]*peer
	held    map[string]int // hashes of ordering keys that have a job in flight
	paused  bool
	stale   bool // there may be claims of workers that are gone
}

// lane is the line of one priority.
type lane struct {
	rank    string
	entries []*entry       // ordered by path
	free    int            // of them without a claim
	reach   string         // path from which on nothing is known; "" if all is
	reading bool           // what is beyond reach is being read
	missed  []follow.Event // beyond reach, since the reading began
	span    int64          // how far the next reading goes, in microseconds of the clock
}

// entry is a job, or a claim whose job is not there.
type entry struct {
	place    place
	path     string
	hash     uint64
	mod      int64     // revision of the job's last write; 0 if only the claim is there
	worker   string    // who has claimed it, or ""
	claim    int64     // revision of the claim
	asOf     int64     // revision of the read that it comes from: what happened before is in it
	asked    bool      // it is being claimed by ourselves
	failures int       // to claim it
	doubt    int64     // revision of the last one
	after    time.Time // it is left alone until then: see failed
	left     time.Time // since when it has been left to another worker
	leftTo   string
}

// peer is a worker that lives.
type peer struct {
	slots  int
	busy   int // claims in the window
	hash   uint64
	asleep bool // it has left what was left to it
}

// crew is what a worker says of itself.
type crew struct {
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Slots int       `json:"slots"`
	Since time.Time `json:"since"`
}

func newWindow() *window {
	return &window{peers: map[string]*peer{}, held: map[string]int{}}
}

// reset forgets everything: what is there has to be read anew.
func (w *window) reset(revision int64) {
	*w = *newWindow()
	w.applied = revision
}

// apply takes in a change that the tail has brought.
func (w *window) apply(keys layout, c follow.Change) {
	for _, e := range c.Events {
		if !w.ready {
			w.missed = append(w.missed, e)
			continue
		}
		w.event(keys, e)
	}
	w.applied = max(w.applied, c.Revision)
}

// event takes in one.
func (w *window) event(keys layout, e follow.Event) {
	what, ok := strings.CutPrefix(e.Key, keys.line())
	if !ok {
		return
	}
	kind, path, _ := strings.Cut(what, "/")
	switch kind {
	case "jobs", "claims":
		w.lineEvent(kind == "claims", path, e)
	case "workers":
		w.peer(path, e.New)
	case "paused":
		w.paused = e.New != nil
	}
}

// peer takes in a worker's key, nil if it is gone.
func (w *window) peer(id string, kv *follow.Entry) {
	if kv == nil {
		delete(w.peers, id)
		w.stale = true
		return
	}
	var c crew
	_ = json.Unmarshal(kv.Value, &c) // of whoever wrote something else nothing is expected
	p := w.peers[id]
	if p == nil {
		p = &peer{hash: hashOf(id), busy: w.busy(id)}
		w.peers[id] = p
	}
	p.slots = min(max(c.Slots, 0), 2*mostSlots)
}

// busy counts a worker's claims.
func (w *window) busy(id string) int {
	n := 0
	for _, l := range w.lanes {
		for _, e := range l.entries {
			if e.worker == id {
				n++
			}
		}
	}
	return n
}

// lineEvent takes in what has become of a job or a claim.
func (w *window) lineEvent(claim bool, path string, ev follow.Event) {
	at, err := parsePlace(path)
	if err != nil {
		return // not of ours; Peek shows it
	}
	l := w.lane(path[:3])
	if l == nil {
		if ev.New == nil {
			return
		}
		// The line was empty when its beginning was looked for, so that this is all of it.
		l = w.open(path[:3], "")
	}
	if l.reach != "" && path >= l.reach {
		if l.reading {
			l.missed = append(l.missed, ev)
		}
		return
	}
	i, found := l.find(path)
	if !found {
		if ev.New == nil {
			return
		}
		l.entries = slices.Insert(l.entries, i, &entry{place: at, path: path, hash: hashOf(path)})
	}
	e := l.entries[i]
	if ev.Revision <= e.asOf {
		return // the read has seen it
	}
	switch {
	case claim && ev.New != nil:
		w.claim(l, e, string(ev.New.Value), ev.New.ModRevision)
	case claim:
		w.unclaim(l, e)
	case ev.New != nil:
		w.write(l, e, ev.New.ModRevision)
	default:
		w.write(l, e, 0)
	}
	if e.mod == 0 && e.worker == "" {
		l.drop(i)
	}
	w.trim(l)
}

// write notes a job's last write, 0 for its deletion.
func (w *window) write(l *lane, e *entry, mod int64) {
	before := e.isFree()
	e.mod, e.failures, e.after = mod, 0, time.Time{}
	l.count(before, e)
}

// claim notes a claim.
func (w *window) claim(l *lane, e *entry, worker string, revision int64) {
	if e.worker != "" {
		w.unclaim(l, e)
	}
	before := e.isFree()
	e.worker, e.claim = worker, revision
	e.left, e.leftTo = time.Time{}, ""
	l.count(before, e)
	if e.place.key != "" {
		w.held[e.place.key]++
	}
	if p := w.peers[worker]; p != nil {
		p.busy++
		p.asleep = false
	} else {
		w.stale = true
	}
}

// unclaim notes the end of a claim.
func (w *window) unclaim(l *lane, e *entry) {
	if e.worker == "" {
		return
	}
	if p := w.peers[e.worker]; p != nil {
		p.busy--
	}
	if e.place.key != "" {
		if w.held[e.place.key]--; w.held[e.place.key] == 0 {
			delete(w.held, e.place.key)
		}
	}
	before := e.isFree()
	e.worker, e.claim, e.failures, e.after = "", 0, 0, time.Time{}
	l.count(before, e)
}

// isFree reports whether the job is there and nobody's.
func (e *entry) isFree() bool { return e.mod != 0 && e.worker == "" }

// count keeps the number of free ones.
func (l *lane) count(before bool, e *entry) {
	switch after := e.isFree(); {
	case after && !before:
		l.free++
	case before && !after:
		l.free--
	}
}

// find is where a path is, or would be.
func (l *lane) find(path string) (int, bool) {
	return slices.BinarySearchFunc(l.entries, path, func(e *entry, path string) int { return strings.Compare(e.path, path) })
}

// asks reports whether a claim of a path is under way.
func (w *window) asks(path string) bool {
	e := w.entry(path)
	return e != nil && e.asked
}

// drop forgets the i-th entry. It is mostly one of the first.
func (l *lane) drop(i int) {
	if i > len(l.entries)/2 {
		l.entries = slices.Delete(l.entries, i, i+1)
		return
	}
	copy(l.entries[1:i+1], l.entries[:i])
	l.entries[0] = nil
	l.entries = l.entries[1:]
}

// lane is the one of a rank, or nil.
func (w *window) lane(rank string) *lane {
	for _, l := range w.lanes {
		if l.rank == rank {
			return l
		}
	}
	return nil
}

// open adds a lane of which nothing is known from a path on.
func (w *window) open(rank, reach string) *lane {
	l := &lane{rank: rank, reach: reach, span: firstSpan}
	i, _ := slices.BinarySearchFunc(w.lanes, rank, func(l *lane, rank string) int { return strings.Compare(l.rank, rank) })
	w.lanes = slices.Insert(w.lanes, i, l)
	return l
}

// entry is what is known of a path, or nil.
func (w *window) entry(path string) *entry {
	l := w.lane(path[:3])
	if l == nil {
		return nil
	}
	if i, ok := l.find(path); ok {
		return l.entries[i]
	}
	return nil
}

// trim forgets what is far down a line that has grown long.
func (w *window) trim(l *lane) {
	if l.free <= 2*windowJobs {
		return
	}
	free := 0
	for i, e := range l.entries {
		if e.isFree() {
			if free++; free > windowJobs {
				w.cut(l, i)
				return
			}
		}
	}
}

// cut forgets the entries from the i-th on.
func (w *window) cut(l *lane, i int) {
	l.reach = l.entries[i].path
	for _, e := range l.entries[i:] {
		w.unclaim(l, e)
		if e.isFree() {
			l.free--
		}
	}
	clear(l.entries[i:])
	l.entries = l.entries[:i]
	l.missed = nil // of a reading under way, which begins further down than the reach is now
	l.reading = false
}

// hungry reports whether more of a line should be read.
func (l *lane) hungry() bool { return l.reach != "" && !l.reading && l.free < windowJobs/2 }

// stretch is a part of a line as it was read at one revision.
type stretch struct {
	from, to string // paths; to is "" at the end of the line
	revision int64
	jobs     []*follow.Entry // keys only
	claims   []*follow.Entry
}

// merge adds what was read beyond a lane's reach.
func (w *window) merge(keys layout, l *lane, s stretch) {
	if w.lane(l.rank) != l || l.reach != s.from || !l.reading {
		return // all was forgotten meanwhile, or what is beyond a place
	}
	missed := l.missed
	l.reach, l.reading, l.missed = s.to, false, nil
	for _, kv := range s.jobs {
		path := strings.TrimPrefix(string(kv.Key), keys.jobs())
		at, err := parsePlace(path)
		if err != nil {
			continue
		}
		l.entries = append(l.entries, &entry{place: at, path: path, hash: hashOf(path), mod: kv.ModRevision, asOf: s.revision})
		l.free++
	}
	for _, kv := range s.claims {
		path := strings.TrimPrefix(string(kv.Key), keys.claims())
		if s.to != "" && path >= s.to {
			continue // beyond what was read of the jobs
		}
		at, err := parsePlace(path)
		if err != nil {
			continue
		}
		i, found := l.find(path)
		if !found {
			l.entries = slices.Insert(l.entries, i, &entry{place: at, path: path, hash: hashOf(path), asOf: s.revision})
		}
		w.claim(l, l.entries[i], string(kv.Value), kv.ModRevision)
	}
	for _, ev := range missed {
		w.event(keys, ev) // what the read has seen of it is older than the entry, and what was written twice ends up as it is
	}
}
