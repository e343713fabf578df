package chaos_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// instant is a moment of a run, by the one clock that all in it share.
type instant int64

// never is later than everything.
const never instant = math.MaxInt64

// claim is one acquisition.
type claim struct {
	worker int
	weight int
	token  int64

	called   instant // Lock was called
	from     instant // Lock returned: it believes
	until    instant // it was told, or called Unlock: it believes no longer
	released instant // Unlock said that etcd has freed the lock
	unlocked error   // what it said
	told     bool    // of its loss, before it called Unlock

	slot     int     // its number among a semaphore's holders, if it asked
	numbered instant // it has had the number since; never if it did not
}

// access is one use of the register that a lock guards.
type access struct {
	input
	output
	worker       int
	called, done instant
}

// history is what happened to one lock. It is safe for concurrent use.
type history struct {
	name  string // of the lock
	began time.Time

	mu       sync.Mutex // guards what is below
	claims   []*claim
	accesses []access
	faults   [][2]instant  // when faults were on
	failed   int           // calls of Lock that returned an error
	values   int64         // that have been given out
	changed  chan struct{} // closed and replaced with each new claim
}

func newHistory(name string) *history {
	return &history{name: name, began: time.Now(), changed: make(chan struct{})}
}

// register is the key that the lock guards.
func (h *history) register() string { return h.name + "-data" }

// now is the time.
func (h *history) now() instant { return instant(time.Since(h.began)) }

// acquired notes an acquisition whose Lock has just returned, perhaps with word of its loss.
func (h *history) acquired(c claim) *claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.from, c.until, c.released, c.numbered = h.now(), never, never, never
	if c.told {
		c.until = c.from
	}
	h.claims = append(h.claims, &c)
	close(h.changed)
	h.changed = make(chan struct{})
	return &c
}

// tell notes that somebody was told of its loss, now.
func (h *history) tell(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.until == never {
		c.until, c.told = h.now(), true
	}
}

// leave notes that somebody calls Unlock, now.
func (h *history) leave(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.until = min(c.until, h.now())
}

// left notes what Unlock has returned.
func (h *history) left(c *claim, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.unlocked = err; err == nil {
		c.released = h.now()
	}
}

// gaveUp notes a Lock that failed.
func (h *history) gaveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
}

// number notes a holder's slot, which it has learnt now.
func (h *history) number(c *claim, slot int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.slot, c.numbered = slot, h.now()
}

// value returns one that nobody has written yet.
func (h *history) value() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values++
	return h.values
}

// accessed notes a use of the register that has just ended.
func (h *history) accessed(a access) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.done = h.now()
	h.accesses = append(h.accesses, a)
}

// hurt notes that faults were on.
func (h *history) hurt(from, to instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, [2]instant{from, to})
}

// count is how many acquisitions there were, and is followed by a channel that is closed when there are more.
func (h *history) count() (int, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.claims), h.changed
}

// believers are those who believe, the first of them first.
func (h *history) believers() (now []claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.claims {
		if c.until == never {
			now = append(now, *c)
		}
	}
	return now
}

// whose tells of a token's holder, if there has been one.
func (h *history) whose(token int64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.claims {
		if c.token == token {
			return fmt.Sprintf(": %v, unlocked: %v", c, c.unlocked)
		}
	}
	return ": nobody's whose Lock has returned"
}

// record is a history that has ended.
type record struct {
	size     int
	claims   []claim // by token
	accesses []access
	faults   [][2]instant
	failed   int
}

// record returns what happened. Nobody may be at it any more.
func (h *history) record(size int) record {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := record{size: size, accesses: h.accesses, faults: h.faults, failed: h.failed}
	for _, c := range h.claims {
		r.claims = append(r.claims, *c)
	}
	slices.SortStableFunc(r.claims, func(a, b claim) int { return int(a.token - b.token) })
	return r
}

// operations is the record as the checker takes it. Who was told of a loss owns until any later time: until last, for each
// token. A write of unknown fate is applied before somebody first sees its value, if anybody does. If nobody does it is left out,
// since whatever order the others can have with it they can have without: who comes next in it is another such write, or nobody.
func (r record) operations(last func(token int64) instant) []porcupine.Operation {
	var ops []porcupine.Operation
	add := func(worker int, in input, out output, call, ret instant) {
		ops = append(ops, porcupine.Operation{ClientId: worker, Input: in, Output: out, Call: int64(call), Return: int64(ret)})
	}
	for _, c := range r.claims {
		add(c.worker, input{verb: acquire, token: c.token, weight: c.weight}, output{}, c.called, c.from)
		add(c.worker, input{verb: end, token: c.token}, output{}, c.until, max(c.until, min(c.released, last(c.token))))
	}
	for _, a := range r.accesses {
		done := a.done
		if a.outcome == unknown {
			seen, ok := r.firstSeen(a.value)
			if !ok {
				continue
			}
			done = max(a.called, min(seen, last(a.token)))
		}
		add(a.worker, a.input, a.output, a.called, done)
	}
	return ops
}

// firstSeen is when the first of those who saw a value had it.
func (r record) firstSeen(value int64) (at instant, ok bool) {
	at = never
	for _, a := range r.accesses {
		if a.outcome == accepted && a.seen == value {
			at, ok = min(at, a.done), true
		}
	}
	return at, ok
}

// superseded is when somebody is first seen to own who cannot own beside the holder of this token: by then that one owns no
// longer, and its writes are not applied any more. As the last of a token it changes no verdict against never, with which
// the checker would try, at every step to the end, whether that is where each write of unknown fate belongs.
func (r record) superseded(token int64) instant {
	at, weight := never, 0
	for _, c := range r.claims {
		switch {
		case c.token == token:
			weight = c.weight
		case c.token > token && weight+c.weight > r.size:
			at = min(at, c.from)
		}
	}
	return at
}
