package chaos_test

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// op is one operation by hand, for a table.
func op(in input, out output, call, ret instant) porcupine.Operation {
	return porcupine.Operation{Input: in, Output: out, Call: int64(call), Return: int64(ret)}
}

func takes(token int64, weight int, call, ret instant) porcupine.Operation {
	return op(input{verb: acquire, token: token, weight: weight}, output{}, call, ret)
}

func ends(token int64, call, ret instant) porcupine.Operation {
	return op(input{verb: end, token: token}, output{}, call, ret)
}

func writes(token, value, over int64, what outcome, call, ret instant) porcupine.Operation {
	return op(input{verb: write, token: token, value: value}, output{what, over}, call, ret)
}

func reads(token, value int64, what outcome, call, ret instant) porcupine.Operation {
	return op(input{verb: read, token: token}, output{what, value}, call, ret)
}

func looks(value int64, call, ret instant) porcupine.Operation {
	return op(input{verb: look}, output{seen: value}, call, ret)
}

// In each history the holder of token 3 comes first. "Told" is an end that may come at any time after it was told.
func TestTheModelsTellGoodHistoriesFromBadOnes(t *testing.T) {
	const all = rwSize
	for what, c := range map[string]struct {
		size int
		good bool
		ops  []porcupine.Operation
	}{
		"one after the other": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, accepted, 11, 12), ends(3, 20, 30),
			takes(5, 1, 5, 25), writes(5, 2, 1, accepted, 26, 27), ends(5, 40, 50), looks(2, 60, 61),
		}},
		"told, and only then the next": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 1, 5, 21),
		}},
		"told when the next owns already": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 22, never), takes(5, 1, 5, 21),
		}},
		"two who never end": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 90, 91), takes(5, 1, 5, 21), ends(5, 92, 93),
		}},
		"a token that is smaller": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 11, 12), takes(2, 1, 20, 21),
		}},
		"a token twice": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 11, 12), takes(3, 1, 20, 21),
		}},

		"a late write, while nobody owns yet": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), writes(3, 1, 0, accepted, 30, 31), takes(5, 1, 5, 40), looks(1, 50, 51),
		}},
		"a late write, when the next owns": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 1, 5, 30), writes(3, 1, 0, accepted, 31, 32),
		}},
		"a late write that is refused": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 1, 5, 30), writes(3, 1, 0, refused, 31, 32), looks(0, 50, 51),
		}},
		"a write that was refused and made": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 1, 5, 30), writes(3, 1, 0, refused, 31, 32), looks(1, 50, 51),
		}},
		"a write that is refused to its holder": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, refused, 11, 12), ends(3, 20, 21),
		}},
		"a write after the release": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, 21), writes(3, 1, 0, accepted, 22, 23),
		}},
		"a write before owning": {mutexSize, false, []porcupine.Operation{
			writes(3, 1, 0, accepted, 0, 4), takes(3, 1, 5, 10), ends(3, 20, 21),
		}},
		"a write that is gone": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, accepted, 11, 12), writes(3, 2, 0, accepted, 13, 14), ends(3, 20, 21),
		}},
		"a write that was sent twice": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 1, accepted, 11, 12), writes(3, 2, 1, accepted, 13, 14), ends(3, 20, 21),
		}},

		"in doubt, and made": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, unknown, 11, never), writes(3, 2, 1, accepted, 12, 13), ends(3, 20, never), takes(5, 1, 5, 30), looks(2, 50, 51),
		}},
		"in doubt, and made later": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, unknown, 11, never), writes(3, 2, 0, accepted, 12, 13), ends(3, 20, never), takes(5, 1, 5, 30), looks(1, 50, 51),
		}},
		"in doubt, and never made": {mutexSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, unknown, 11, never), writes(3, 2, 0, accepted, 12, 13), ends(3, 20, never), takes(5, 1, 5, 30), looks(2, 50, 51),
		}},
		"in doubt, and made when the next owns": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), writes(3, 1, 0, unknown, 11, never), ends(3, 20, never), takes(5, 1, 5, 30), looks(0, 31, 32), looks(1, 50, 51),
		}},
		"in doubt, and seen before it was sent": {mutexSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), looks(1, 11, 12), writes(3, 1, 0, unknown, 13, never), ends(3, 20, 21),
		}},

		"readers together, and then a writer": {rwSize, true, []porcupine.Operation{
			takes(3, 1, 0, 10), takes(5, 1, 1, 11), reads(3, 0, accepted, 12, 13), reads(5, 0, accepted, 12, 13), ends(5, 20, 21),
			ends(3, 22, never), takes(7, all, 2, 30), writes(7, 1, 0, accepted, 31, 32), ends(7, 40, 41), takes(9, 1, 33, 42), reads(9, 1, accepted, 43, 44),
		}},
		"a writer beside one of two readers": {rwSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), takes(5, 1, 1, 11), ends(5, 20, 21), ends(3, 31, never), takes(7, all, 2, 30),
		}},
		"a reader beside a writer": {rwSize, false, []porcupine.Operation{
			takes(3, all, 0, 10), takes(5, 1, 1, 11), ends(3, 20, 21), ends(5, 22, 23),
		}},
		"a reader of the past": {rwSize, false, []porcupine.Operation{
			takes(3, all, 0, 10), writes(3, 1, 0, accepted, 11, 12), ends(3, 13, 14), takes(5, 1, 1, 15), reads(5, 0, accepted, 16, 17), ends(5, 22, 23),
		}},
		"a read after the end": {rwSize, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 13, never), takes(5, all, 1, 15), reads(3, 0, accepted, 16, 17), ends(5, 22, 23),
		}},

		"permits to the last": {permits, true, []porcupine.Operation{
			takes(3, 2, 0, 10), takes(5, 1, 0, 10), writes(5, 1, 0, accepted, 11, 12), writes(3, 2, 1, accepted, 13, 14), ends(3, 20, 21), takes(7, 2, 1, 22),
		}},
		"a permit too many": {permits, false, []porcupine.Operation{
			takes(3, 2, 0, 10), takes(5, 2, 0, 10), ends(3, 20, 21), ends(5, 20, 21),
		}},
		"a permit too many, of three": {permits, false, []porcupine.Operation{
			takes(3, 1, 0, 10), takes(5, 1, 0, 10), takes(7, 2, 0, 10), ends(3, 20, 21), ends(5, 20, 21), ends(7, 20, 21),
		}},
		"a late write, with the permit given to another": {permits, true, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 2, 5, 30), writes(3, 1, 0, accepted, 31, 32),
		}},
		"a late write, with all permits given to another": {permits, false, []porcupine.Operation{
			takes(3, 1, 0, 10), ends(3, 20, never), takes(5, 3, 5, 30), writes(3, 1, 0, accepted, 31, 32),
		}},
	} {
		t.Run(what, func(t *testing.T) {
			if got := porcupine.CheckOperations(model(c.size), c.ops); got != c.good {
				t.Errorf("good: %t, want %t", got, c.good)
			}
		})
	}
}
