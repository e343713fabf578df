package registry

import (
	"sync/atomic"
	"time"
)

// table is what a picker has derived from one state of the list and of the ejections. It does not change, so that picks
// read it without a lock.
type table struct {
	from *published
	turn uint64 // of the ejections

	near group  // those of the own zone; all, if there is none
	far  group  // the others
	stay uint64 // a random number under it stays near; see always
}

// group is instances that are chosen from alike.
type group struct {
	seats []seat
	order order // nil if there are no seats
}

// order chooses among the seats that it was made of. hash is that of the key.
type order interface{ choose(hash uint64) *seat }

// seat is an instance's place in a table.
type seat struct {
	instance *Instance
	member   *member
	load     *atomic.Int64 // of its group
	weight   uint32
	term     uint32 // of the member, when the table was made
}

// member is what a picker keeps of an instance for as long as it is listed. One that leaves and comes back is a new
// member: what was picked before is done with the old one, and does not count for the new.
type member struct {
	instance *Instance // guarded by Picker.building

	load    atomic.Int64  // picks that are not done yet
	running atomic.Int32  // failures since the last success
	term    atomic.Uint32 // how often it was ejected: what was picked before the last time says nothing of the time after

	// Guarded by ejections.mu.
	out    bool
	until  time.Time     // when the last ejection ends, or ended
	length time.Duration // of the last one
}

func (t *table) empty() bool { return t.near.order == nil && t.far.order == nil }

// current reports whether nothing has changed since a table was made.
func (p *Picker) current(t *table) bool {
	return t.from == p.view.current() && t.turn == p.ejections.turn.Load()
}

// renew returns a table that is current, or the given one while another goroutine makes that: an old instance beats
// a wait. No instance does not, so then it waits.
func (p *Picker) renew(old *table) *table {
	if old.empty() {
		p.building.Lock()
	} else if !p.building.TryLock() {
		return old
	}
	defer p.building.Unlock()
	t := p.table.Load()
	if !p.current(t) {
		t = p.build(t)
		p.table.Store(t)
	}
	return t
}

// build makes the next table. The caller holds building.
func (p *Picker) build(old *table) *table {
	// Read before anything is derived of it: what changes meanwhile makes the table one that is not current.
	t := &table{from: p.view.current(), turn: p.ejections.turn.Load()}
	p.members = join(p.members, t.from.Instances)
	ready := make([]*member, 0, len(p.members))
	for _, m := range p.members {
		if m.instance.State == Ready {
			ready = append(ready, m)
		}
	}
	for _, m := range p.ejections.usable(ready) {
		g, state := &t.near, &p.groups[0]
		if p.opts.Zone != "" && m.instance.Zone != p.opts.Zone {
			g, state = &t.far, &p.groups[1]
		} else if g.seats == nil && p.opts.Zone == "" {
			g.seats = make([]seat, 0, len(ready))
		}
		g.seats = append(g.seats, seat{
			instance: m.instance,
			member:   m,
			load:     &state.load,
			weight:   uint32(max(m.instance.Weight, 1)),
			term:     m.term.Load(),
		})
	}
	t.near.order = p.order(&p.groups[0], t.near.seats, old.near.order)
	t.far.order = p.order(&p.groups[1], t.far.seats, old.far.order)
	t.stay = always
	if p.opts.Zone != "" {
		t.stay = stay(weightOf(t.near.seats), weightOf(t.far.seats), zones(t.from.Instances), p.opts.ZoneShare)
	}
	return t
}

// order makes what chooses among seats. old is what it replaces.
func (p *Picker) order(state *groupState, seats []seat, old order) order {
	if len(seats) == 0 {
		return nil
	}
	switch p.kind {
	case LeastLoaded:
		return newTwoChoices(seats)
	case Weighted:
		if !equalWeights(seats) {
			return newShares(seats, &state.turn)
		}
	case ConsistentHash:
		last, _ := old.(*ring)
		return newRing(seats, last, &state.load, p.opts.LoadBound)
	case RoundRobin:
	}
	return &rounds{seats: seats, turn: &state.turn}
}

// continues reports whether i is a member's instance, as it is now. Another address is another process, which has nothing
// to do with the one before it.
func (m *member) continues(i *Instance) bool {
	return m.instance == i || m.instance.ID == i.ID && m.instance.Addr == i.Addr
}

// join returns the members of a list: those that there were, and new ones. Both are ordered by ID.
func join(members []*member, list []*Instance) []*member {
	joined := make([]*member, 0, len(list))
	for _, i := range list {
		// Most are the same pointer as before: strings are compared around what has changed only.
		for len(members) > 0 && members[0].instance != i && members[0].instance.ID < i.ID {
			members = members[1:]
		}
		var m *member
		if len(members) > 0 && members[0].continues(i) {
			m, members = members[0], members[1:]
			m.instance = i
		} else {
			m = &member{instance: i}
		}
		joined = append(joined, m)
	}
	return joined
}

func weightOf(seats []seat) (sum uint64) {
	for i := range seats {
		sum += uint64(seats[i].weight)
	}
	return sum
}

func equalWeights(seats []seat) bool {
	for i := range seats {
		if seats[i].weight != seats[0].weight {
			return false
		}
	}
	return true
}
