package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoInstances is in the error of a pick when no instance of the service is ready.
var ErrNoInstances = errors.New("registry: no instance to pick")

// PickKind is how a picker chooses.
type PickKind uint8

const (
	// RoundRobin takes the instances in turn, ordered by ID, whatever their weights. Each picker begins somewhere
	// else, so that many callers do not all begin with the same instance.
	RoundRobin PickKind = iota + 1

	// LeastLoaded draws two instances, each as likely as its weight, and takes the one with fewer picks that are not
	// done yet, relative to its weight. It needs every pick's Done.
	LeastLoaded

	// Weighted takes each instance as often as its weight, its turns spread evenly: it does not come
	// several times running and then not for long. With equal weights it is RoundRobin.
	Weighted

	// ConsistentHash takes the same instance for the same key, in every process. When an instance goes, only its
	// keys move; when one comes, only those that it gets. An instance that has more than its share of the picks that
	// are not done yet is passed over (PickOptions.LoadBound), so it needs every pick's Done.
	ConsistentHash
)

// String names the kind.
func (k PickKind) String() string {
	switch k {
	case RoundRobin:
		return "round robin"
	case LeastLoaded:
		return "least loaded"
	case Weighted:
		return "weighted"
	case ConsistentHash:
		return "consistent hash"
	}
	return "unknown"
}

// PickOptions of NewPicker. The zero value, and a nil *PickOptions, mean the defaults.
type PickOptions struct {
	// Zone is the caller's own: its instances are preferred. Default none, and all are alike.
	Zone string

	// ZoneShare is the part of a zone's fair share that must be there for all picks to stay in it. The fair share is the
	// weight of all instances that can be picked, divided by the number of zones in which any instance is listed, those
	// without a zone being one. When the own zone's instances have less than ZoneShare of that together, as many picks
	// as they have of it stay, and the rest goes to all others alike. Default 0.8, at most 1.
	ZoneShare float64

	// LoadBound is how many times its share of the picks that are not done yet an instance may have with
	// ConsistentHash; the share is by weight, rounded up to a whole pick. A key whose instance has more goes to
	// the next, and so does the second of two picks at a time while all instances together have but a few. Default
	// 1.25, more than 1; negative means no bound, and a key goes nowhere else.
	LoadBound float64

	// EjectAfter is after how many failures running an instance is left out for a time. Default 5; negative means never.
	// At most half of the ready instances are left out at once.
	EjectAfter int

	// EjectFor is for how long, at first. It doubles each time it happens again, up to EjectMax, and starts over once the
	// instance was back for as long as it was left out. Default 10 s.
	EjectFor time.Duration

	// EjectMax is for how long at the most. Default 5 min, or EjectFor if that is more.
	EjectMax time.Duration

	// IsFailure reports whether an error given to Done is the instance's failure. One that is not counts neither for
	// the instance nor against it. Default: every error but context.Canceled and gRPC's Canceled, with which
	// callers give up. It must be safe for concurrent use.
	IsFailure func(error) bool
}

// defaults are those of PickOptions.
const (
	defaultZoneShare  = 0.8
	defaultLoadBound  = 1.25
	defaultEjectAfter = 5
	defaultEjectFor   = 10 * time.Second
	defaultEjectMax   = 5 * time.Minute
)

// withDefaults returns the options that count, or an error that names the rule that one breaks.
func (o *PickOptions) withDefaults(kind PickKind) (PickOptions, error) {
	var c PickOptions
	if o != nil {
		c = *o
	}
	if c.ZoneShare == 0 {
		c.ZoneShare = defaultZoneShare
	}
	if c.LoadBound == 0 {
		c.LoadBound = defaultLoadBound
	}
	if c.EjectAfter == 0 {
		c.EjectAfter = defaultEjectAfter
	}
	if c.EjectFor == 0 {
		c.EjectFor = defaultEjectFor
	}
	if c.EjectMax == 0 {
		c.EjectMax = max(defaultEjectMax, c.EjectFor)
	}
	if c.IsFailure == nil {
		c.IsFailure = isFailure
	}
	// Each as what must hold, which a NaN does not.
	switch {
	case kind < RoundRobin || kind > ConsistentHash:
		return c, fmt.Errorf("registry: PickKind %d refused: it is not one of RoundRobin, LeastLoaded, Weighted and ConsistentHash", kind)
	case !(c.ZoneShare > 0 && c.ZoneShare <= 1):
		return c, fmt.Errorf("registry: PickOptions.ZoneShare %v refused: it is not more than 0 and at most 1", c.ZoneShare)
	case !(c.LoadBound > 1 || c.LoadBound < 0):
		return c, fmt.Errorf("registry: PickOptions.LoadBound %v refused: it is not more than 1 (negative means none)", c.LoadBound)
	case c.EjectFor < 0:
		return c, fmt.Errorf("registry: PickOptions.EjectFor %v refused: it is negative", c.EjectFor)
	case c.EjectMax < c.EjectFor:
		return c, fmt.Errorf("registry: PickOptions.EjectMax %v refused: it is under EjectFor, %v", c.EjectMax, c.EjectFor)
	}
	return c, nil
}

// Picker chooses among the instances of a view that are ready. It is safe for concurrent use. It needs no closing; of a
// view that was closed it goes on choosing among the last instances known.
type Picker struct {
	view      *View
	kind      PickKind
	opts      PickOptions
	counts    bool // of picks that are not done yet
	ejections *ejections

	groups [2]groupState // of the own zone, and of the others
	table  atomic.Pointer[table]

	building sync.Mutex // held by whoever makes the next table
	members  []*member  // guarded by building: of all that are listed, ordered by ID
}

// groupState is what the instances of a zone, or of the others, have in common from one table to the next.
type groupState struct {
	turn atomic.Uint64 // of those that are taken in turn
	_    [56]byte      // what every pick writes has a cache line of its own
	load atomic.Int64  // picks that are not done yet
	_    [56]byte
}

// NewPicker returns a picker of the given kind over a view. It does no I/O.
//
// It panics if kind is none, or an option is out of its range: these are constants of a program.
func NewPicker(v *View, kind PickKind, opts *PickOptions) *Picker {
	o, err := opts.withDefaults(kind)
	if err != nil {
		panic(err)
	}
	p := &Picker{
		view:      v,
		kind:      kind,
		opts:      o,
		counts:    kind == LeastLoaded || kind == ConsistentHash,
		ejections: newEjections(&o),
	}
	for g := range p.groups {
		p.groups[g].turn.Store(rand.Uint64())
	}
	p.table.Store(&table{})
	p.renew(p.table.Load())
	return p
}

// Pick returns an instance that is ready, by what the view knows now; one that is stale, or from the disk, is chosen
// from like any other, as an old list beats none. Call the pick's Done when the work that it was for has ended.
//
// key matters to ConsistentHash only. An empty one has no place there, and is given a random one each time.
//
// It does no I/O and does not allocate. The first pick after a change makes a new table of the instances; those beside
// it do not wait, and may for that long still be given an instance from before the change.
//
// Without an instance that is ready it returns [ErrNoInstances], and the view's own error if it has one.
func (p *Picker) Pick(key string) (Pick, error) {
	t := p.table.Load()
	if !p.current(t) {
		t = p.renew(t)
	}
	if t.empty() {
		return Pick{}, p.none(t)
	}
	return p.take(p.choose(t, key)), nil
}

// choose returns the seat of an instance from a table that is not empty.
func (p *Picker) choose(t *table, key string) *seat {
	var hash uint64
	if p.kind == ConsistentHash {
		if hash = rand.Uint64(); key != "" {
			hash = hashOf(key)
		}
	}
	from := t.near.order
	if t.stay < always {
		draw := mix(hash) // of a key the same in every process
		if p.kind != ConsistentHash {
			draw = rand.Uint64()
		}
		if draw >= t.stay {
			from = t.far.order
		}
	}
	return from.choose(hash)
}

// another is Pick for an attempt after the given ones have failed: it returns an instance that is none of theirs, and
// false if there is none.
func (p *Picker) another(key string, tried []Pick) (Pick, bool) {
	t := p.table.Load()
	if !p.current(t) {
		t = p.renew(t)
	}
	if t.empty() {
		return Pick{}, false
	}
	untried := func(s *seat) bool {
		for i := range tried {
			if tried[i].member == s.member {
				return false
			}
		}
		return true
	}
	if s := p.choose(t, key); untried(s) {
		return p.take(s), true
	}
	for _, g := range []group{t.near, t.far} {
		at := 0
		if len(g.seats) > 0 {
			at = rand.IntN(len(g.seats))
		}
		for i := range g.seats {
			if s := &g.seats[(at+i)%len(g.seats)]; untried(s) {
				return p.take(s), true
			}
		}
	}
	return Pick{}, false
}

// take counts a pick.
func (p *Picker) take(s *seat) Pick {
	if p.counts {
		s.member.load.Add(1)
		if p.kind == ConsistentHash {
			s.load.Add(1)
		}
	}
	return Pick{Instance: s.instance, picker: p, seat: s, member: s.member}
}

// none is the error about a table without instances.
func (p *Picker) none(t *table) error {
	why := "none is listed"
	if n := len(t.from.Instances); n > 0 {
		var states [len(stateNames)]int
		for _, i := range t.from.Instances {
			states[i.State]++
		}
		why = fmt.Sprintf("of %d listed, %d are starting and %d draining", n, states[Starting], states[Draining])
	}
	err := fmt.Errorf("registry %q: %w: %s", p.view.service.name, ErrNoInstances, why)
	if t.from.Source == Live && t.from.skipped == nil {
		return err
	}
	if trouble := p.view.Err(); trouble != nil {
		err = fmt.Errorf("%w; %w", err, trouble)
	}
	return err
}

// Pick is an instance that was chosen, until the work that it was chosen for is done. It belongs to one goroutine at a
// time. The zero Pick has no instance.
type Pick struct {
	// Instance is the one that was chosen. It is shared and must not be written to.
	Instance *Instance

	picker *Picker
	seat   *seat   // nil once it is done
	member *member // that the seat is of
}

// Done says that the work has ended, and with what: nil if the instance did its part, also if its answer was a
// refusal that it is not to be blamed for. Several failures running leave the instance out for a time (PickOptions).
//
// It is to be called once for each pick: without it LeastLoaded and ConsistentHash take the work to go on for ever. A
// second call on the same variable does nothing, but a copy is the same pick and must not be done again. A deferred
// `defer pick.Done(err)` takes the err of that line; to give the later one, defer a func that calls Done.
func (p *Pick) Done(err error) {
	s := p.seat
	if s == nil {
		return
	}
	p.seat = nil
	if p.picker.counts {
		s.member.load.Add(-1)
		if p.picker.kind == ConsistentHash {
			s.load.Add(-1)
		}
	}
	p.picker.ejections.report(s, err)
}
