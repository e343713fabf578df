package chaos_test

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// A lock as it should be, one step at a time: who shares it, and the register that it guards. A mutex has one permit; of a
// semaphore each takes some; and a reader takes one where a writer takes them all.

const (
	// mutexSize is that of a mutex.
	mutexSize = 1

	// rwSize is that of an RWMutex, and what its writer takes: more than there are readers.
	rwSize = 1000

	// maxHolders is how many may share a lock in the model.
	maxHolders = 8
)

// verb is what is done to the lock or to the register.
type verb int

const (
	acquire verb = iota // own, with a larger token than all before
	end                 // own no longer: released, or lost
	write               // put a value into the register under the guard, and learn the one before
	read                // learn the value under the guard
	look                // learn the value without owning anything
)

func (v verb) String() string { return [...]string{"acquire", "end", "write", "read", "look"}[v] }

// outcome is what the one who writes or reads was told.
type outcome int

const (
	accepted outcome = iota
	refused          // it owns no longer, and nothing was written
	unknown          // a write that is applied now, later or never
)

func (o outcome) String() string { return [...]string{"accepted", "refused", "unknown"}[o] }

// input is what somebody set out to do.
type input struct {
	verb   verb
	token  int64 // whose doing it is
	weight int   // to acquire
	value  int64 // to write; no two writes have the same
}

// output is what came of it.
type output struct {
	outcome outcome
	seen    int64 // the value that was there
}

// holder is one who owns.
type holder struct {
	token  int64
	weight int
}

// state is the lock and the register. It is compared with ==.
type state struct {
	highest int64              // token so far
	holders [maxHolders]holder // by token; the zero holder is a free place
	value   int64
}

// place returns where the holder with a token is, or -1.
func (s *state) place(token int64) int {
	return slices.IndexFunc(s.holders[:], func(h holder) bool { return h.token == token })
}

// taken is the sum of the holders' weights.
func (s *state) taken() (n int) {
	for _, h := range s.holders {
		n += h.weight
	}
	return n
}

// step reports whether in can have come out as out in this state, and returns the state thereafter.
func (s state) step(size int, in input, out output) (bool, state) {
	at := s.place(in.token)
	holds := at >= 0
	switch in.verb {
	case acquire:
		free := s.place(0)
		if in.token <= s.highest || free < 0 || s.taken()+in.weight > size {
			return false, s
		}
		s.highest, s.holders[free] = in.token, holder{in.token, in.weight}
		return true, s
	case end:
		if !holds {
			return false, s
		}
		copy(s.holders[at:], s.holders[at+1:]) // so that equal holders are equal states
		s.holders[maxHolders-1] = holder{}
		return true, s
	case look:
		return out.seen == s.value, s
	case read:
		return out.outcome == accepted && holds && out.seen == s.value || out.outcome == refused && !holds, s
	case write:
		switch out.outcome {
		case accepted:
			// Who finds the own value there was sent twice, and is told of the second time.
			if !holds || out.seen != s.value && out.seen != in.value {
				return false, s
			}
			s.value = in.value
			return true, s
		case refused:
			return !holds, s
		case unknown:
			// "Never" is to happen when it owns no longer.
			if holds {
				s.value = in.value
			}
			return true, s
		}
	}
	panic(fmt.Sprintf("no such step: %v, %v", in, out))
}

// model is a lock of some size for the checker.
func model(size int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, out any) (bool, any) {
			return s.(state).step(size, in.(input), out.(output))
		},
		DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
}

// describe is one step for people.
func describe(in input, out output) string {
	switch in.verb {
	case acquire:
		return fmt.Sprintf("%d: acquire %d", in.token, in.weight)
	case end:
		return fmt.Sprintf("%d: end", in.token)
	case write:
		return fmt.Sprintf("%d: write %d over %d: %v", in.token, in.value, out.seen, out.outcome)
	case read:
		return fmt.Sprintf("%d: read %d: %v", in.token, out.seen, out.outcome)
	case look:
		return fmt.Sprintf("look: %d", out.seen)
	}
	return in.verb.String()
}
