package chaos_test

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// Token 3 takes one permit, writes 1, in doubt, from 11 on, and never says that it ends; and token 5 takes them all at 30.
func TestWritesInDoubtAreWhatSomebodySaw(t *testing.T) {
	used := func(worker int, token int64, verb verb, value, seen int64, what outcome, called, done instant) access {
		return access{input{verb, token, 0, value}, output{what, seen}, worker, called, done}
	}
	for what, c := range map[string]struct {
		want porcupine.CheckResult
		then []access
	}{
		"seen by nobody":                      {porcupine.Ok, []access{used(1, 5, write, 2, 0, accepted, 31, 32)}},
		"seen by the next":                    {porcupine.Ok, []access{used(1, 5, write, 2, 1, accepted, 31, 32)}},
		"seen by itself, and by the next":     {porcupine.Ok, []access{used(0, 3, write, 3, 1, accepted, 14, 15), used(1, 5, write, 2, 3, accepted, 31, 32)}},
		"seen before it was sent":             {porcupine.Illegal, []access{used(0, 3, write, 3, 1, accepted, 9, 10)}},
		"made when the next had written":      {porcupine.Illegal, []access{used(1, 5, write, 2, 0, accepted, 31, 32), used(2, 0, look, 0, 1, accepted, 40, 41)}},
		"made, and gone when the next writes": {porcupine.Illegal, []access{used(2, 0, look, 0, 1, accepted, 14, 15), used(1, 5, write, 2, 0, accepted, 31, 32)}},
		"and a value that nobody wrote":       {porcupine.Illegal, []access{used(1, 5, write, 2, 7, accepted, 31, 32)}},
	} {
		t.Run(what, func(t *testing.T) {
			r := record{size: permits, claims: []claim{
				{worker: 0, weight: 1, token: 3, called: 0, from: 10, until: 20, released: never, told: true},
				{worker: 1, weight: permits, token: 5, called: 1, from: 30, until: 90, released: 91},
			}}
			r.accesses = append([]access{used(0, 3, write, 1, 0, unknown, 11, 12)}, c.then...)
			if got := check(r); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// Three who share, and are cut off together: each of them sends many writes of which it never hears. The orders of all of them are
// too many to try.
func TestManyWritesInDoubtAreDecided(t *testing.T) {
	for _, seen := range []int64{0, 17, 1000} {
		r := record{size: permits}
		for token := int64(1); token <= permits; token++ {
			r.claims = append(r.claims, claim{worker: int(token), weight: 1, token: token, called: 0, from: 10, until: 5000, released: never, told: true})
			for n := range int64(20) {
				at := instant(20 + 100*n)
				r.accesses = append(r.accesses, access{input{write, token, 0, token + permits*n}, output{unknown, 0}, int(token), at, at + 50})
			}
		}
		r.claims = append(r.claims, claim{weight: permits, token: permits + 1, called: 4000, from: 6000, until: 7000, released: 7001})
		r.accesses = append(r.accesses, access{input{write, permits + 1, 0, 2000}, output{accepted, seen}, 0, 6001, 6002})
		want := porcupine.Ok
		if seen == 1000 { // which nobody wrote
			want = porcupine.Illegal
		}
		if got := check(r); got != want {
			t.Errorf("%d was found: %v, want %v", seen, got, want)
		}
	}
}
