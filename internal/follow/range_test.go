package follow

import "testing"

func TestRangesThatDifferHaveViewsOfTheirOwn(t *testing.T) {
	ranges := []Range{
		Prefix("a"), Prefix("ab"), Prefix("a/"), Prefix("b"),
		Keys("a"), Keys("ab"), Keys("a/"), Keys("a", "b"), Keys("a", "b", "c"), Keys("ab", "c"), Keys("a", "bc"), Keys("b"),
	}
	of := map[string]Range{}
	for _, r := range ranges {
		if other, taken := of[r.id()]; taken {
			t.Errorf("%v and %v share a view", r, other)
		}
		of[r.id()] = r
		if n := len(r.watches()); n != r.size() {
			t.Errorf("%v has %d watches and says %d", r, n, r.size())
		}
	}
	if r := Keys("b", "a", "b"); r.id() != Keys("a", "b").id() || r.size() != 2 || r.ordered() || !Keys("a", "a").ordered() {
		t.Error("keys are no set")
	}
	for _, twins := range [][2]Range{{Prefix("a"), Prefix("a")}, {Keys("a", "b"), Keys("a", "b")}} {
		if twins[0].id() != twins[1].id() {
			t.Errorf("%v has two views", twins[0])
		}
	}
}
