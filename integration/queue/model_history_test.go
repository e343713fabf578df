package queue_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/internal/boottime"
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
	number  int // of the recorder's
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

// modelSleep is a time for which a process was frozen. It is over when whoever was frozen has been told of what happened meanwhile.
type modelSleep struct{ from, until modelInstant }

// modelWakes is how long a process that is awake again takes to be told, at the most.
const modelWakes = time.Second

// modelRecorder writes a history down. It is safe for concurrent use.
type modelRecorder struct {
	began   boottime.Instant                   // a clock that all processes share
	changed func(number int, d *modelDelivery) // if set, is called whenever something is known of a delivery, in order

	mu         sync.Mutex // guards what is below, and what the deliveries hold
	pushes     []*modelPush
	deliveries []*modelDelivery
	tampered   map[int64]bool       // tokens
	sleeps     map[int][]modelSleep // by worker
}

func newModelRecorder() *modelRecorder {
	return &modelRecorder{began: boottime.Now(), tampered: map[int64]bool{}, sleeps: map[int][]modelSleep{}}
}

// now is the time.
func (r *modelRecorder) now() modelInstant { return modelInstant(boottime.Now().Sub(r.began)) }

// know tells of what is known of a delivery. The caller holds mu.
func (r *modelRecorder) know(d *modelDelivery) {
	if r.changed != nil {
		r.changed(d.number, d)
	}
}

// take notes what another recorder knows of a delivery, in place of what it knew before, which is nil at first.
func (r *modelRecorder) take(before *modelDelivery, d modelDelivery) *modelDelivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before == nil {
		before = &modelDelivery{}
		r.deliveries = append(r.deliveries, before)
	}
	*before = d
	return before
}

// died notes that a worker is dead, now: it believes nothing any more.
func (r *modelRecorder) died(worker int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.deliveries {
		if d.worker == worker {
			d.until = min(d.until, r.now())
		}
	}
}

// froze notes that a worker is frozen, now. While it is it does nothing, and cannot be told.
func (r *modelRecorder) froze(worker int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sleeps[worker] = append(r.sleeps[worker], modelSleep{r.now(), modelNever})
}

// thawed notes that a worker was woken, now.
func (r *modelRecorder) thawed(worker int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.sleeps[worker]
	all[len(all)-1].until = r.now() + modelInstant(modelWakes)
}

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

// deliver notes a delivery: its handler has been called, now. If ctx has ended already, as when the process was frozen in the midst of the
// call, the handler has never believed in it.
func (r *modelRecorder) deliver(ctx context.Context, d modelDelivery) *modelDelivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.number, d.from, d.until, d.settled = len(r.deliveries), r.now(), modelNever, modelNever
	if ctx.Err() != nil {
		d.until = d.from
	}
	r.deliveries = append(r.deliveries, &d)
	r.know(&d)
	return &d
}

// told notes that a handler knows of its loss, now.
func (r *modelRecorder) told(d *modelDelivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.until = min(d.until, r.now())
	r.know(d)
}

// gives notes that a handler gives its job away, now.
func (r *modelRecorder) gives(d *modelDelivery, how modelEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.until = min(d.until, r.now())
	d.end = how
	r.know(d)
}

// gave notes what came of it.
func (r *modelRecorder) gave(d *modelDelivery, what modelOutcome, said error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.outcome, d.settled, d.said = what, r.now(), said
	r.know(d)
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
	sleeps     map[int][]modelSleep
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
	h := modelHistory{tampered: r.tampered, sleeps: r.sleeps, left: map[int][]string{}, dead: map[int][]string{}, effects: modelEffects{tokens: map[int][]int64{}}}
	for _, p := range r.pushes {
		h.pushes = append(h.pushes, *p)
	}
	for _, d := range r.deliveries {
		h.deliveries = append(h.deliveries, *d)
	}
	return h
}
