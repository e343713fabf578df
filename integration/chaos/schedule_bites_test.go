package chaos_test

import "testing"

func TestEveryTwoFaultsComeTogetherAndASeedRepeatsThem(t *testing.T) {
	seed := seeded(t)
	one, same, other := newSchedule(seed), newSchedule(seed), newSchedule(seed+1)
	const pairs = faultKinds * (faultKinds - 1) / 2
	differ := false
	for range 3 {
		seen := map[[2]fault]bool{}
		for range pairs {
			e := one.next()
			if again := same.next(); again != e {
				t.Fatalf("the same seed draws %v, and then %v", e, again)
			}
			differ = differ || other.next() != e
			a, b := e.faults[0].fault, e.faults[1].fault
			seen[[2]fault{min(a, b), max(a, b)}] = true
			if a == b {
				t.Errorf("%v is one fault", e)
			}
		}
		if len(seen) != pairs {
			t.Errorf("%d of %d pairs came in as many episodes", len(seen), pairs)
		}
	}
	if !differ {
		t.Error("another seed draws the same")
	}
}
