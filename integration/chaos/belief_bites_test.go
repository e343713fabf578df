package chaos_test

import (
	"math/rand/v2"
	"testing"

	"github.com/anishathalye/porcupine"
)

// believed is a claim by hand.
func believed(worker int, token int64, weight int, called, from, until instant) claim {
	return claim{
		worker: worker, token: token, weight: weight,
		called: called, from: from, until: until, released: never, numbered: never,
	}
}

func TestOverlapsOfBeliefAreFound(t *testing.T) {
	for what, c := range map[string]struct {
		size   int
		claims []claim
		want   []instant // how long each lasts
	}{
		"one after the other": {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 20, 30)}, nil},
		"together":            {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 19, 30)}, []instant{1}},
		"within":              {1, []claim{believed(0, 1, 1, 0, 10, 40), believed(1, 2, 1, 0, 20, 23), believed(2, 3, 1, 0, 30, 35)}, []instant{3, 5}},
		"at the same moment":  {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 10, 20)}, []instant{10}},
		"the later one first": {1, []claim{believed(0, 1, 1, 0, 15, 20), believed(1, 2, 1, 0, 10, 18)}, []instant{3}},
		"told before Lock returned": {1, []claim{
			believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 15, 12), believed(2, 3, 1, 0, 20, 25),
		}, nil},
		"readers": {rwSize, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 11, 30), believed(2, 3, rwSize, 0, 30, 40)}, nil},
		"a writer beside the longer of two readers": {rwSize, []claim{
			believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 11, 33), believed(2, 3, rwSize, 0, 19, 40),
		}, []instant{14}},
		"permits": {3, []claim{believed(0, 1, 2, 0, 10, 20), believed(1, 2, 1, 0, 11, 30), believed(2, 3, 2, 0, 20, 40)}, nil},
		"a permit too many": {3, []claim{
			believed(0, 1, 2, 0, 10, 20), believed(1, 2, 1, 0, 11, 30), believed(2, 3, 1, 0, 18, 40),
		}, []instant{2}},
	} {
		t.Run(what, func(t *testing.T) {
			found := record{size: c.size, claims: c.claims}.overlaps()
			if len(found) != len(c.want) {
				t.Fatalf("found %v, want %v", found, c.want)
			}
			for i, o := range found {
				if instant(o.lasted) != c.want[i] {
					t.Errorf("%v, want it to last %d", o, c.want[i])
				}
			}
		})
	}
}

func TestASlotIsOnesOwnFromWhenItIsKnown(t *testing.T) {
	first, second := believed(0, 1, 2, 0, 10, 20), believed(1, 2, 1, 0, 11, 30)
	first.slot, first.numbered = 1, 12
	second.slot, second.numbered = 1, 20
	if found := (record{size: permits, claims: []claim{first, second}}).sameSlots(); found != nil {
		t.Errorf("found %v, want none: the slot was free again", found)
	}
	second.numbered = 19
	if found := (record{size: permits, claims: []claim{first, second}}).sameSlots(); len(found) != 1 {
		t.Errorf("found %v, want one", found)
	}
	second.slot = 0
	if found := (record{size: permits, claims: []claim{first, second}}).sameSlots(); found != nil {
		t.Errorf("found %v, want none: the slots differ", found)
	}
}

func TestAHandOverIsAWaitForSomebodyElsesEnd(t *testing.T) {
	for what, c := range map[string]struct {
		size       int
		claims     []claim
		all, under int
	}{
		"the first":                      {1, []claim{believed(0, 1, 1, 0, 10, 20)}, 0, 0},
		"who waited":                     {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 15, 21, 30)}, 1, 1},
		"who waited, when all was well":  {1, []claim{believed(0, 1, 1, 0, 10, 120), believed(1, 2, 1, 15, 121, 130)}, 1, 0},
		"who came when it was free":      {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 21, 22, 30)}, 0, 0},
		"who waited for himself":         {1, []claim{believed(0, 1, 1, 0, 10, 20), believed(0, 2, 1, 15, 21, 30)}, 0, 0},
		"a reader who waited for none":   {rwSize, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 15, 21, 30)}, 0, 0},
		"a writer who waited for two":    {rwSize, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 1, 0, 10, 21), believed(2, 3, rwSize, 15, 22, 30)}, 1, 1},
		"permits, of which some left":    {3, []claim{believed(0, 1, 1, 0, 10, 20), believed(1, 2, 2, 15, 21, 30)}, 0, 0},
		"permits, of which none is left": {3, []claim{believed(0, 1, 1, 0, 10, 20), believed(2, 2, 1, 0, 10, 30), believed(1, 3, 2, 15, 21, 30)}, 1, 1},
	} {
		t.Run(what, func(t *testing.T) {
			r := record{size: c.size, claims: c.claims, faults: [][2]instant{{0, 100}}}
			if all, under := r.handOvers(); all != c.all || under != c.under {
				t.Errorf("%d, %d of them under faults; want %d and %d", all, under, c.all, c.under)
			}
		})
	}
}

// What may happen at any later time is given to the checker with an end, beyond which it can make no difference.
func TestTheEndOfWhatMayComeLateChangesNoVerdict(t *testing.T) {
	seed := seeded(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	verdicts := map[bool]int{}
	for range 3000 {
		r := invent(rng)
		want := porcupine.CheckOperations(model(r.size), r.operations(func(int64) instant { return never }))
		if got := porcupine.CheckOperations(model(r.size), r.operations(r.superseded)); got != want {
			t.Fatalf("good: %t, and %t without an end: %+v", got, want, r)
		}
		verdicts[want]++
	}
	t.Logf("good and bad ones: %v", verdicts)
	if verdicts[true] < 100 || verdicts[false] < 100 {
		t.Errorf("good and bad ones are %v: too few of a kind to compare", verdicts)
	}
}

// invent makes up a record that a lock could have, or nearly.
func invent(rng *rand.Rand) record {
	sizes := []int{mutexSize, rwSize, permits}
	r := record{size: sizes[rng.IntN(len(sizes))]}
	var (
		now     instant
		value   int64
		claims  []*claim
		owners  []*claim
		written int64
	)
	within := func() (instant, instant) {
		now += 10
		return now - instant(rng.IntN(15)), now + instant(rng.IntN(15))
	}
	for token := int64(1); token <= 4; token++ {
		c := &claim{worker: int(token), token: token, weight: 1, released: never, numbered: never}
		if r.size == mutexSize || rng.IntN(2) == 0 {
			c.weight = r.size
		}
		taken := c.weight
		for _, o := range owners {
			taken += o.weight
		}
		for ; taken > r.size; owners = owners[1:] {
			o := owners[0]
			taken -= o.weight
			var ret instant
			if o.until, ret = within(); rng.IntN(2) == 0 {
				o.released = ret
			}
		}
		c.called, c.from = within()
		claims, owners = append(claims, c), append(owners, c)
		for range rng.IntN(4) {
			o := owners[rng.IntN(len(owners))]
			written++
			a := access{input: input{verb: write, token: o.token, value: written}, output: output{seen: value}}
			a.called, a.done = within()
			if rng.IntN(2) == 0 {
				a.outcome = unknown
			}
			if a.outcome == accepted || rng.IntN(2) == 0 {
				value = written
			}
			if rng.IntN(12) == 0 {
				a.seen = rng.Int64N(written + 1)
			}
			if rng.IntN(12) == 0 {
				a.token = 1 + rng.Int64N(token)
			}
			r.accesses = append(r.accesses, a)
		}
	}
	for _, o := range owners {
		o.until, _ = within()
	}
	for _, c := range claims {
		r.claims = append(r.claims, *c)
	}
	return r
}
