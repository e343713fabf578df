package queue_test

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// modelInstant is a moment of a run, by the one clock that all in it share.
type modelInstant int64

// modelNever is later than everything.
const modelNever modelInstant = math.MaxInt64

func (at modelInstant) String() string {
	if at == modelNever {
		return "never"
	}
	return time.Duration(at).Round(time.Microsecond).String()
}

// modelOutcome is what is known of a call that writes.
type modelOutcome int

const (
	modelUnknown  modelOutcome = iota // it was carried out, or will be, or not
	modelAccepted                     // it was carried out
	modelRefused                      // nothing was written, and nothing will be
)

func (o modelOutcome) String() string { return [...]string{"unknown", "accepted", "refused"}[o] }

// modelPush is a job as its producer knows it. Jobs are told apart by a tag in their items: of a push whose answer was lost the
// producer may not know the ID.
type modelPush struct {
	tag      int
	id       string // as the push returned it, or the caller's own; "" if the caller does not know
	key      string
	effect   bool // it is done by Ack with its effect, and in no other way
	outcome  modelOutcome
	line     int // pushes with one number follow each other, each when the one before has returned; 0 means no such order
	priority int
	delayed  bool
}

// modelEnd is how a handler gives a job away.
type modelEnd int

const (
	modelKept   modelEnd = iota // not at all: it was lost before
	modelDone                   // Ack without operations, or nil
	modelEffect                 // Ack with the job's effect
	modelBack                   // Nack, or an error
)

func (e modelEnd) String() string {
	return [...]string{"keeps it", "is done", "is done with an effect", "gives it back"}[e]
}

// modelDelivery is one delivery of a job.
type modelDelivery struct {
	tag     int
	id, key string
	attempt int
	token   int64
	worker  int

	from  modelInstant // the handler was called
	until modelInstant // it was told of a loss, or gave the job away: it believes no longer

	end     modelEnd
	outcome modelOutcome // of how it gave the job away. What is returned to Work stays unknown
	settled modelInstant // the answer was there
	said    error        // it
}

func (d *modelDelivery) String() string {
	return fmt.Sprintf("job %d, attempt %d, token %d, worker %d, from %v to %v, who %v (%v at %v: %v)",
		d.tag, d.attempt, d.token, d.worker, d.from, d.until, d.end, d.outcome, d.settled, d.said)
}

// modelRecorder writes a history down. It is safe for concurrent use.
type modelRecorder struct {
	began time.Time

	mu         sync.Mutex // guards what is below, and what the deliveries hold
	pushes     []*modelPush
	deliveries []*modelDelivery
	tampered   map[int64]bool // tokens
}

func newModelRecorder() *modelRecorder {
	return &modelRecorder{began: time.Now(), tampered: map[int64]bool{}}
}

// now is the time.
func (r *modelRecorder) now() modelInstant { return modelInstant(time.Since(r.began)) }

// push notes a job that somebody is about to push. What comes of it is noted by pushed.
func (r *modelRecorder) push(p modelPush) *modelPush {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.outcome = modelUnknown
	r.pushes = append(r.pushes, &p)
	return &p
}

// pushed notes what a push has returned.
func (r *modelRecorder) pushed(p *modelPush, id string, what modelOutcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		p.id = id
	}
	p.outcome = what
}

// deliver notes a delivery: its handler has been called, now.
func (r *modelRecorder) deliver(d modelDelivery) *modelDelivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.from, d.until, d.settled = r.now(), modelNever, modelNever
	r.deliveries = append(r.deliveries, &d)
	return &d
}

// told notes that a handler knows of its loss, now.
func (r *modelRecorder) told(d *modelDelivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.until = min(d.until, r.now())
}

// gives notes that a handler gives its job away, now.
func (r *modelRecorder) gives(d *modelDelivery, how modelEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.until = min(d.until, r.now())
	d.end = how
}

// gave notes what came of it.
func (r *modelRecorder) gave(d *modelDelivery, what modelOutcome, said error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.outcome, d.settled, d.said = what, r.now(), said
}

// tamper notes that a stranger has ended a claim, or its worker: its holder cannot know before others own.
func (r *modelRecorder) tamper(token int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tampered[token] = true
}

// modelEffects is what handlers' effects left in etcd: of each job the tokens under which there is one, and how often the count of
// them all was written, in the same transactions.
type modelEffects struct {
	tokens map[int][]int64
	count  int
}

// modelHistory is a run that is over.
type modelHistory struct {
	pushes     []modelPush
	deliveries []modelDelivery
	tampered   map[int64]bool
	effects    modelEffects
	left, dead map[int][]string // the IDs under which a job is in the queue, and among the dead letters

	// first is when, as a revision, each ID was first claimed, if that is known: perhaps by a worker that was lost before it
	// called its handler.
	first map[string]int64
}

// history returns what was written down. Nobody may be at it any more.
func (r *modelRecorder) history() modelHistory {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := modelHistory{tampered: r.tampered, left: map[int][]string{}, dead: map[int][]string{}, effects: modelEffects{tokens: map[int][]int64{}}}
	for _, p := range r.pushes {
		h.pushes = append(h.pushes, *p)
	}
	for _, d := range r.deliveries {
		h.deliveries = append(h.deliveries, *d)
	}
	return h
}
