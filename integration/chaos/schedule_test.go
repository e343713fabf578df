package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// fault is one kind of trouble.
type fault int

const (
	cutOff       fault = iota // one worker's way to etcd lets nothing pass
	lonelyLeader              // etcd's leader is cut off from the other members
	late                      // what goes to etcd and comes from there takes 50 to 300 ms
	leaderDown                // etcd's leader is stopped, and started again at the end
	allDown                   // so are all members
	dropped                   // connections are reset, again and again

	// faultKinds is how many there are.
	faultKinds = int(dropped) + 1
)

func (f fault) String() string {
	return [...]string{"a worker cut off", "leader alone", "late", "leader down", "all down", "dropped"}[f]
}

// trouble is one fault as it will happen.
type trouble struct {
	fault fault

	// Where it happens, of what can be chosen: to the worker who holds, or to one by number; to that one's path, or to all.
	holder bool
	target int
	all    bool

	// direction is that in which nothing passes, and reset says that connections break, too.
	direction etcdtest.Direction
	reset     bool
}

func (tr trouble) String() string {
	who := fmt.Sprint(tr.target)
	if tr.holder {
		who = "holder"
	}
	switch tr.fault {
	case cutOff:
		return fmt.Sprintf("%v (%s, %s)", tr.fault, who, [...]string{"both ways", "requests", "answers"}[tr.direction])
	case late:
		if tr.all {
			who = "all"
		}
		return fmt.Sprintf("%v (%s)", tr.fault, who)
	default:
		return tr.fault.String()
	}
}

// episode is two faults at a time.
type episode struct {
	faults [2]trouble
	gap    time.Duration // from the first to the second
	lasts  time.Duration // from the second to the end of both
	reset  bool          // what is held up then is lost
}

func (e episode) String() string {
	return fmt.Sprintf("%v, after %v %v, for %v", e.faults[0], e.gap, e.faults[1], e.lasts)
}

// schedule draws episodes from a seed, for ever: every two faults in turn, in an order of chance.
type schedule struct {
	rng   *rand.Rand
	pairs [][2]fault // still to come, before all come again
}

func newSchedule(seed uint64) *schedule {
	return &schedule{rng: rand.New(rand.NewPCG(seed, 0))}
}

// next draws one. How much chance it uses does not depend on what it draws.
func (s *schedule) next() episode {
	if len(s.pairs) == 0 {
		for a := range faultKinds {
			for b := range a {
				s.pairs = append(s.pairs, [2]fault{fault(a), fault(b)})
			}
		}
		s.rng.Shuffle(len(s.pairs), func(i, j int) { s.pairs[i], s.pairs[j] = s.pairs[j], s.pairs[i] })
	}
	e := s.draw(s.pairs[0])
	s.pairs = s.pairs[1:]
	if s.rng.IntN(2) == 0 {
		e.faults[0], e.faults[1] = e.faults[1], e.faults[0]
	}
	return e
}

// nextCut draws one for holders that count on more than they have: one worker comes to be on a slow path, and so holds for most
// of the time; and when the answers to its renewals have come late, too, the holder is cut off, until others are next.
func (s *schedule) nextCut() episode {
	e := s.draw([2]fault{late, cutOff})
	e.faults[0].all, e.faults[0].holder = false, false
	e.faults[1].holder, e.faults[1].direction = true, etcdtest.Both
	e.gap, e.lasts, e.reset = s.millis(1000, 1500), longTTL+s.millis(500, 1500), false
	return e
}

func (s *schedule) draw(pair [2]fault) (e episode) {
	for i, f := range pair {
		e.faults[i] = trouble{
			fault: f, holder: s.rng.IntN(2) == 0, target: s.rng.IntN(workers), all: s.rng.IntN(2) == 0,
			direction: etcdtest.Direction(max(0, s.rng.IntN(4)-1)), reset: s.rng.IntN(4) == 0,
		}
	}
	e.gap = s.millis(0, 500)
	e.lasts = s.millis(500, 4000)
	e.reset = s.rng.IntN(2) == 0
	return e
}

// millis draws a time.
func (s *schedule) millis(least, most int) time.Duration {
	return time.Duration(least+s.rng.IntN(most-least)) * time.Millisecond
}
