package queue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/internal/follow"
)

const testKeys = layout(Root + "q//")

// world is etcd as far as a window sees it.
type world struct {
	revision int64
	keys     map[string]*follow.Entry
	events   []follow.Event // not brought so far
}

func newWorld() *world { return &world{keys: map[string]*follow.Entry{}} }

// put writes keys in one transaction.
func (w *world) put(pairs ...string) {
	w.revision++
	for i := 0; i < len(pairs); i += 2 {
		kv := &follow.Entry{Key: []byte(pairs[i]), Value: []byte(pairs[i+1]), ModRevision: w.revision, CreateRevision: w.revision}
		w.keys[pairs[i]] = kv
		w.events = append(w.events, follow.Event{Key: pairs[i], New: kv, Revision: w.revision})
	}
}

// remove deletes keys in one transaction.
func (w *world) remove(keys ...string) {
	w.revision++
	for _, k := range keys {
		if w.keys[k] != nil {
			delete(w.keys, k)
			w.events = append(w.events, follow.Event{Key: k, Revision: w.revision})
		}
	}
}

// bring hands on what has happened up to a revision.
func (w *world) bring(win *window, revision int64) {
	n := 0
	for n < len(w.events) && w.events[n].Revision <= revision {
		n++
	}
	win.apply(testKeys, follow.Change{Revision: revision, Events: w.events[:n]})
	w.events = w.events[n:]
}

// survey is what a loader finds.
func (w *world) survey() survey {
	var s survey
	lanes := map[string]bool{}
	for _, k := range slices.Sorted(maps.Keys(w.keys)) {
		if path, ok := strings.CutPrefix(k, testKeys.jobs()); ok && !lanes[path[:3]] {
			lanes[path[:3]] = true
			s.heads = append(s.heads, path)
		}
		if strings.HasPrefix(k, testKeys.workers()) {
			s.workers = append(s.workers, w.keys[k])
		}
	}
	return s
}

// beyond is what a loader reads.
func (w *world) beyond(rank, from string, span int64, limit int) stretch {
	s := stretch{from: from, revision: w.revision}
	if until := clockOf(from) + span; until>>(4*clockDigits) == 0 {
		s.to = fmt.Sprintf("%s/%0*x", rank, clockDigits, until)
	}
	in := func(path string) bool { return path[:3] == rank && path >= from && (s.to == "" || path < s.to) }
	for _, k := range slices.Sorted(maps.Keys(w.keys)) {
		if path, ok := strings.CutPrefix(k, testKeys.jobs()); ok && in(path) {
			if len(s.jobs) == limit {
				s.to = string(s.jobs[limit-1].Key[len(testKeys.jobs()):]) + "\x00"
				break
			}
			s.jobs = append(s.jobs, w.keys[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(w.keys)) {
		if path, ok := strings.CutPrefix(k, testKeys.claims()); ok && path[:3] == rank && path >= from {
			s.claims = append(s.claims, w.keys[k])
		}
	}
	return s
}

// agree fails the test unless a window shows what is there.
func (w *world) agree(t *testing.T, win *window) {
	t.Helper()
	busy, held := map[string]int{}, map[string]int{}
	for _, l := range win.lanes {
		free := 0
		paths := map[string]bool{}
		for _, e := range l.entries {
			paths[e.path] = true
			job, claim := w.keys[testKeys.jobs()+e.path], w.keys[testKeys.claims()+e.path]
			if job == nil != (e.mod == 0) || job != nil && job.ModRevision != e.mod {
				t.Fatalf("%s is known to be of revision %d, and is %v", e.path, e.mod, job)
			}
			if claim == nil != (e.worker == "") || claim != nil && (string(claim.Value) != e.worker || claim.ModRevision != e.claim) {
				t.Fatalf("%s is known to be claimed by %q at %d, and is %v", e.path, e.worker, e.claim, claim)
			}
			if e.isFree() {
				free++
			}
			if e.worker != "" {
				busy[e.worker]++
				if e.place.key != "" {
					held[e.place.key]++
				}
			}
		}
		if free != l.free {
			t.Fatalf("line %s has %d free, counted as %d", l.rank, free, l.free)
		}
		if !slices.IsSortedFunc(l.entries, func(a, b *entry) int { return strings.Compare(a.path, b.path) }) {
			t.Fatalf("line %s is in disorder", l.rank)
		}
		for k := range w.keys {
			if path, ok := strings.CutPrefix(k, testKeys.jobs()); ok && path[:3] == l.rank && (l.reach == "" || path < l.reach) && !paths[path] {
				t.Fatalf("%s is there, before %q, and not known", path, l.reach)
			}
		}
	}
	for k := range w.keys {
		if path, ok := strings.CutPrefix(k, testKeys.jobs()); ok && win.lane(path[:3]) == nil {
			t.Fatalf("the line of %s is not known", path)
		}
	}
	for id, p := range win.peers {
		if p.busy != busy[id] {
			t.Fatalf("worker %s has %d claims, counted as %d", id, busy[id], p.busy)
		}
	}
	if !maps.Equal(held, win.held) {
		t.Fatalf("keys held: %v, counted as %v", held, win.held)
	}
}

// However reads and events overtake each other, a window shows what is there once all has arrived.
func TestAWindowAgreesWithEtcdHoweverReadsAndEventsOvertakeEachOther(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		w, win := newWorld(), newWindow()
		clock := int64(1 << 40)
		push := func() {
			at := place{priority: r.IntN(3) - 1, stem: stemOf(clock-r.Int64N(50), fmt.Sprintf("p%d", r.Int64()))}
			clock += r.Int64N(40)
			if r.IntN(4) == 0 {
				at.key = keyHash(fmt.Sprint(r.IntN(3)))
			}
			w.put(testKeys.job(at), "\n1")
		}
		job := func() string {
			all := slices.Sorted(maps.Keys(w.keys))
			for range 20 {
				if path, ok := strings.CutPrefix(all[r.IntN(len(all))], testKeys.jobs()); ok {
					return path
				}
			}
			return ""
		}
		act := func() {
			w.put(testKeys.worker(fmt.Sprint("w", r.IntN(3))), `{"slots":5}`)
			for range r.IntN(6) {
				switch path := job(); {
				case path == "" || r.IntN(3) == 0:
					push()
				case w.keys[testKeys.claims()+path] == nil:
					w.put(testKeys.claims()+path, fmt.Sprint("w", r.IntN(3)))
				case r.IntN(3) == 0:
					w.remove(testKeys.claims() + path)
				case r.IntN(2) == 0:
					w.remove(testKeys.claims()+path, testKeys.jobs()+path)
				default:
					w.put(testKeys.jobs()+path, "\n2")
				}
			}
			if r.IntN(9) == 0 {
				w.remove(testKeys.worker(fmt.Sprint("w", r.IntN(3))))
			}
		}
		for range 40 {
			act()
		}
		from := w.revision - r.Int64N(20)
		w.events = slices.DeleteFunc(w.events, func(e follow.Event) bool { return e.Revision <= from })
		win.reset(from)
		s := w.survey()
		act()
		w.bring(win, from+r.Int64N(w.revision-from+1)) // before the survey's answer is here
		win.begin(testKeys, s)
		for range 200 {
			act()
			if r.IntN(2) == 0 {
				w.bring(win, win.applied+r.Int64N(w.revision-win.applied+1))
			}
			for _, l := range win.lanes {
				if l.reach != "" && !l.reading && r.IntN(3) == 0 {
					l.reading = true
					part := w.beyond(l.rank, l.reach, 1<<r.IntN(12), 1+r.IntN(30))
					for range r.IntN(3) { // happens before the answer is here, and may be known before it
						act()
					}
					w.bring(win, win.applied+r.Int64N(w.revision-win.applied+1))
					win.merge(testKeys, l, part)
				}
				if len(l.entries) > 5 && r.IntN(20) == 0 {
					win.cut(l, r.IntN(len(l.entries)))
				}
			}
		}
		w.bring(win, w.revision)
		w.agree(t, win)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestALongLineIsForgottenBeyondAWindowAndReadOnWhenItIsUsedUp(t *testing.T) {
	t.Parallel()
	w, win := newWorld(), newWindow()
	win.begin(testKeys, survey{})
	for i := range 3 * windowJobs {
		w.put(testKeys.job(place{stem: stemOf(int64(1<<40+i), "p")}), "\n")
		w.bring(win, w.revision)
		if l := win.lanes[0]; l.free > 2*windowJobs {
			t.Fatalf("%d jobs are kept", l.free)
		}
	}
	l := win.lanes[0]
	if l.reach == "" || l.hungry() {
		t.Errorf("after %d jobs the line reaches to %q with %d known", 3*windowJobs, l.reach, l.free)
	}
	for len(l.entries) > windowJobs/2-1 {
		w.remove(testKeys.jobs() + l.entries[0].path)
		w.bring(win, w.revision)
	}
	if !l.hungry() {
		t.Errorf("with %d jobs known the line is not read on", l.free)
	}
	w.agree(t, win)
}

// ranked puts jobs in line, and returns the window of workers that see it.
func ranked(workers, slots, jobs int) (*world, *window) {
	w, win := newWorld(), newWindow()
	for i := range workers {
		w.put(testKeys.worker(fmt.Sprint("w", i)), fmt.Sprintf(`{"slots":%d}`, slots))
	}
	for i := range jobs {
		w.put(testKeys.job(place{stem: stemOf(int64(1<<40+i), "p")}), "\n")
	}
	win.ready = true
	w.bring(win, w.revision)
	return w, win
}

func firsts(c choice) []string {
	var paths []string
	for _, slot := range c.slots {
		paths = append(paths, slot[0].path)
	}
	return paths
}

func TestAWorkerThatIsAloneTakesTheLineInItsOrder(t *testing.T) {
	t.Parallel()
	_, win := ranked(1, 4, 20)
	got := firsts(win.pick("w0", 4, 2, time.Now()))
	if len(got) != 6 || !slices.IsSorted(got) || got[0] != win.lanes[0].entries[0].path || got[5] != win.lanes[0].entries[5].path {
		t.Errorf("it picks %v", got)
	}
}

func TestWorkersThatSeeTheSameDivideTheLineWithoutAWord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ workers, slots, jobs int }{{16, 1, 1}, {16, 1, 5}, {16, 1, 500}, {16, 8, 500}, {3, 64, 40}, {2, 5, 10}} {
		_, win := ranked(c.workers, c.slots, c.jobs)
		taken := map[string]string{}
		for i := range c.workers {
			me := fmt.Sprint("w", i)
			for _, path := range firsts(win.pick(me, c.slots, 0, time.Now())) {
				if taken[path] != "" {
					t.Errorf("%+v: %s and %s both take %s", c, taken[path], me, path)
				}
				taken[path] = me
			}
		}
		want := min(c.jobs, c.workers*c.slots)
		if len(taken) != want {
			t.Errorf("%+v: %d jobs are taken, want %d", c, len(taken), want)
		}
		for i, e := range win.lanes[0].entries[:want] {
			if taken[e.path] == "" {
				t.Errorf("%+v: number %d is left", c, i)
			}
		}
	}
}

func TestWhatIsAtHandAndWhatIsFallenBackToIsNobodyElses(t *testing.T) {
	t.Parallel()
	_, win := ranked(4, 8, 800)
	seen := map[string]string{}
	for i := range 4 {
		me := fmt.Sprint("w", i)
		c := win.pick(me, 8, 16, time.Now())
		if len(c.slots) != 24 {
			t.Errorf("%s picks %d", me, len(c.slots))
		}
		for _, slot := range c.slots {
			if len(slot) < 2 {
				t.Errorf("%s has nothing to fall back to", me)
			}
			for _, e := range slot {
				if seen[e.path] != "" {
					t.Errorf("%s is named by %s and by %s", e.path, seen[e.path], me)
				}
				seen[e.path] = me
			}
		}
	}
}

func TestWhatIsLeftToAWorkerThatSleepsIsTakenByAnother(t *testing.T) {
	t.Parallel()
	w, win := ranked(3, 1, 1)
	now := time.Now()
	owner := ""
	for i := range 3 {
		if me := fmt.Sprint("w", i); len(win.pick(me, 1, 0, now).slots) > 0 {
			owner = me
		}
	}
	var others []string
	for i := range 3 {
		if me := fmt.Sprint("w", i); me != owner {
			others = append(others, me)
		}
	}
	c := win.pick(others[0], 1, 0, now)
	if len(c.slots) > 0 || !c.wake.Equal(now.Add(leaveFor)) {
		t.Errorf("it is taken at once, or looked at again %v later", c.wake.Sub(now))
	}
	win.pick(others[0], 1, 0, now.Add(leaveFor)) // finds out
	taken := 0
	for _, me := range others {
		taken += len(win.pick(me, 1, 0, now.Add(leaveFor)).slots)
	}
	if taken != 1 {
		t.Errorf("it is taken by %d of the others", taken)
	}
	// Who claims is awake.
	e := win.lanes[0].entries[0]
	w.put(testKeys.claims()+e.path, owner)
	w.remove(testKeys.claims() + e.path)
	w.bring(win, w.revision)
	for _, me := range others {
		if c := win.pick(me, 1, 0, now.Add(2*leaveFor)); len(c.slots) > 0 {
			t.Error("what falls to a worker that has claimed again is not left to it")
		}
	}
}

// What comes between a tail's beginning and the survey's answer is not forgotten: here the first job of a priority that had none.
func TestWhatHappensDuringTheSurveyIsKnownAfterIt(t *testing.T) {
	t.Parallel()
	w, win := newWorld(), newWindow()
	win.reset(0)
	s := w.survey()
	w.put(testKeys.worker("w0"), `{"slots":1}`)
	w.put(testKeys.job(place{priority: 5, stem: stemOf(1<<40, "p")}), "\n")
	w.bring(win, w.revision)
	win.begin(testKeys, s)
	w.agree(t, win)
	if len(win.peers) != 1 {
		t.Errorf("%d workers are known", len(win.peers))
	}
}

// A tail that begins anew while a line is read on, before its survey: what was read belongs to a line that nobody looks at any more.
func TestAReadingThatATailsNewBeginningHasOvertakenIsDropped(t *testing.T) {
	t.Parallel()
	w, win := newWorld(), newWindow()
	w.put(testKeys.worker("w0"), `{"slots":9}`)
	job := func(i int) place { return place{stem: stemOf(int64(1<<40+i), "p"), key: keyHash("k")} }
	for i := range 9 {
		w.put(testKeys.job(job(i)), "\n")
	}
	w.put(testKeys.claim(job(5)), "w0")
	w.bring(win, w.revision)
	win.begin(testKeys, w.survey())
	l := win.lanes[0]
	l.reading = true
	part := w.beyond(l.rank, l.reach, 1<<12, 99)
	w.put(testKeys.job(job(10)), "\n")
	w.bring(win, w.revision)
	win.reset(w.revision)
	win.merge(testKeys, l, part)
	win.begin(testKeys, w.survey())
	if n := len(win.lanes); n != 1 {
		t.Errorf("one priority has %d lines", n)
	}
	if len(win.held) > 0 {
		t.Errorf("before the line is read again, ordering keys are held: %v", win.held)
	}
	l = win.lanes[0]
	l.reading = true
	win.merge(testKeys, l, w.beyond(l.rank, l.reach, 1<<12, 99))
	w.agree(t, win)
}

func TestAPickPassesOverWhatCannotBeClaimed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w, win := newWorld(), newWindow()
	win.ready = true
	w.put(testKeys.worker("w0"), `{"slots":9}`)
	at := func(offset time.Duration, name string) place {
		return place{stem: stemOf(now.Add(offset).UnixMicro(), name)}
	}
	put := func(p place) string { w.put(testKeys.job(p), "\n"); return p.path() }
	low := at(-time.Minute, "low")
	low.priority = -1
	claimed, first, second, due, later, ahead := at(-9*time.Second, "claimed"), at(-8*time.Second, "a"), at(-7*time.Second, "b"), at(-6*time.Second, "due"),
		at(time.Minute, "later"), at(time.Hour, "ahead")
	first.key, second.key, due.delayed, later.delayed = keyHash("k"), keyHash("k"), true, true
	put(claimed)
	w.put(testKeys.claim(claimed), "w1")
	want := []string{put(first), put(due), put(ahead), put(low)}
	put(second)
	put(later)
	w.bring(win, w.revision)
	c := win.pick("w0", 9, 0, now)
	if got := firsts(c); !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
	if !c.wake.Equal(later.at()) {
		t.Errorf("looked at again at %v, and not when the delayed job is due, %v", c.wake, later.at())
	}
	win.cut(win.lanes[0], 3) // from here on there may be more of the higher priority
	if got := firsts(win.pick("w0", 9, 0, now)); slices.Contains(got, low.path()) {
		t.Errorf("a lower priority is taken before the higher one is read: %v", got)
	}
	win.paused = true
	if got := firsts(win.pick("w0", 9, 0, now)); len(got) > 0 {
		t.Errorf("of a paused queue %v is picked", got)
	}
}
