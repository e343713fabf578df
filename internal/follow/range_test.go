package follow

import "testing"

func TestRangesThatDifferHaveViewsOfTheirOwn(t *testing.T) {
	ranges := []Range{
		Prefix("a"), Prefix("ab"), Prefix("a/"), Prefix("b"),
		Keys("a"), Keys("ab"), Keys("a/"), Keys("a", "b"), Keys("a", "b", "c"), Keys("ab", "c"), Keys("a", "bc"), Keys("b"),
		Prefixes("a", "b"), Prefixes("a", "c"), Prefixes("a", "b", "c"), Prefixes("a").With("b"), Prefixes("b").With("a"),
		Prefixes().With("a", "b"), Prefixes("a", "b").Deletions(), Keys("a", "b").Deletions(),
		Prefix("a").Tail(), Keys("a").Tail(), Prefix("a").Deletions(), Prefix("a").Deletions().Tail(),
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
	for _, twins := range [][2]Range{
		{Prefix("a"), Prefix("a")},
		{Keys("a", "b"), Keys("a", "b")},
		{Prefixes("b", "a"), Prefixes("a", "b", "a")},
		{Prefixes("a"), Prefix("a")}, // which is whole
		{Prefixes().With("a"), Keys("a")},
		{Keys("a").With("b"), Prefixes().With("b", "a")},
	} {
		if twins[0].id() != twins[1].id() {
			t.Errorf("%v has two views", twins[0])
		}
	}
}

// So that each event comes by one watch.
func TestOfPrefixesWithinEachOtherTheOuterOneCounts(t *testing.T) {
	for what, c := range map[string]struct{ got, want Range }{
		"within":          {Prefixes("a/b/", "a/", "c/"), Prefixes("a/", "c/")},
		"far within":      {Prefixes("a/", "a/b/c", "a0", "a/x"), Prefixes("a/", "a0")},
		"all in one":      {Prefixes("a", "a/", "ab"), Prefix("a")},
		"a key within":    {Prefixes("a/", "b/").With("a/1", "c"), Prefixes("b/", "a/").With("c")},
		"a key that is":   {Prefixes("a/").With("a/"), Prefix("a/")},
		"beside a prefix": {Prefix("k//").With("k"), Prefixes("k//").With("k")},
	} {
		if c.got.id() != c.want.id() || c.got.size() != c.want.size() {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	if r := Prefixes("a/", "b/").With("c"); r.size() != 3 || !r.woven() || !r.ordered() {
		t.Errorf("%v is no whole", r)
	}
	if r := Prefixes("a/", "a/b"); r.woven() {
		t.Errorf("%v needs one watch", r)
	}
}

func TestATailIsOfOnePrefixOrOneKey(t *testing.T) {
	for what, tail := range map[string]func() Range{
		"a key":                func() Range { return Keys("a").Tail() },
		"a key under a prefix": func() Range { return Prefix("a").Tail().With("ab") },
	} {
		if r := tail(); !r.tail || r.woven() || !r.ordered() {
			t.Errorf("%s: %v", what, r)
		}
	}
	for what, tail := range map[string]func() Range{
		"two keys":     func() Range { return Keys("a", "b").Tail() },
		"two prefixes": func() Range { return Prefixes("a", "b").Tail() },
		"a key more":   func() Range { return Prefix("a").Tail().With("b") },
		"nothing":      func() Range { return Keys().Tail() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: not refused", what)
				}
			}()
			tail()
		}()
	}
}
