package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestMergeKeepsTheOrderAndTheListItWasGiven(t *testing.T) {
	t.Parallel()
	at := func(ids string) (list []*Instance) {
		for id := range strings.FieldsSeq(ids) {
			list = append(list, &Instance{ID: id})
		}
		return list
	}
	for _, c := range []struct{ list, edits, want string }{
		{"", "", ""},
		{"", "b", "b"},
		{"", "a b c", "a b c"},
		{"", "-a", ""},
		{"a b c", "-b", "a c"},
		{"a b c", "-a -b -c", ""},
		{"b", "a c", "a b c"},
		{"a c", "-a b -c d", "b d"},
		{"a b c", "b", "a b c"},
		{"a c", "-b", "a c"},
		{"a10 a2", "a1 a3", "a1 a10 a2 a3"},
	} {
		list := at(c.list)
		before := slices.Clone(list)
		var edits []edit
		for e := range strings.FieldsSeq(c.edits) {
			if id, gone := strings.CutPrefix(e, "-"); gone {
				edits = append(edits, edit{id: id})
			} else {
				edits = append(edits, edit{id: e, after: &Instance{ID: e}})
			}
		}
		got := merge(list, edits)
		if !slices.Equal(ids(got), strings.Fields(c.want)) {
			t.Errorf("%q with %q becomes %q, want %q", c.list, c.edits, ids(got), c.want)
		}
		if !slices.Equal(list, before) {
			t.Errorf("%q with %q: the list it was given has changed", c.list, c.edits)
		}
		for _, i := range got {
			edited := slices.ContainsFunc(edits, func(e edit) bool { return e.after == i })
			if !edited && !slices.Contains(list, i) {
				t.Errorf("%q with %q: %s was copied", c.list, c.edits, i.ID)
			}
		}
	}
}

func TestMergeAgreesWithAMap(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var list []*Instance
	model := map[string]*Instance{}
	for range 2000 {
		changes := map[string]*Instance{}
		for range rng.IntN(5) {
			id := fmt.Sprint(rng.IntN(40))
			if rng.IntN(2) == 0 {
				changes[id] = nil
			} else {
				changes[id] = &Instance{ID: id}
			}
		}
		var edits []edit
		for id, i := range changes {
			edits = append(edits, edit{id: id, after: i})
			if i == nil {
				delete(model, id)
			} else {
				model[id] = i
			}
		}
		slices.SortFunc(edits, func(a, b edit) int { return strings.Compare(a.id, b.id) })
		list = merge(list, edits)
		if len(list) != len(model) || !slices.IsSorted(ids(list)) {
			t.Fatalf("got %v, want %d instances in order", ids(list), len(model))
		}
		for _, i := range list {
			if model[i.ID] != i {
				t.Fatalf("instance %s is not the newest", i.ID)
			}
		}
	}
}

// BenchmarkChange is the cost of one change by the size of the view.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("instances=%d", n), func(b *testing.B) {
			list := make([]*Instance, n)
			for i := range list {
				list[i] = &Instance{ID: fmt.Sprintf("%06d", i)}
			}
			changed := &Instance{ID: fmt.Sprintf("%06d", n/2)}
			b.ReportAllocs()
			for b.Loop() {
				list = merge(list, []edit{{id: changed.ID, after: changed}})
			}
		})
	}
}

func ids(list []*Instance) []string {
	all := make([]string, len(list))
	for i, instance := range list {
		all[i] = instance.ID
	}
	return all
}
