package turn

import (
	"strings"
	"testing"
)

func TestAKeySaysWhatItsPlaceTakes(t *testing.T) {
	for _, s := range []Share{{}, {Size: Unlimited, Weight: 1}, {Size: 1, Weight: 1}, {Size: 10, Weight: 3}, {Size: 1000, Weight: 1000}} {
		key := s.keys("jobs/") + "694d9a2b-17"
		if got := ShareOf("jobs/", key); got != s {
			t.Errorf("%s is read as %+v, want %+v", key, got, s)
		}
		if !InLine("jobs/", key) {
			t.Errorf("%s stands in no line", key)
		}
	}
	for _, strange := range []string{"694d9a2b", "~", "~10", "~10.", "~10.3", "~.3-1", "~x.3-1", "~10.x-1", "~10.0-1", "~0.1-1", "~10.-3-1", "~r.-1", "~-1.1-1", "~+3.1-1", "~3.+1-1", "~3.5-1", "~03.1-1", "~3.01-1", "~R.1-1"} {
		if got := ShareOf("jobs/", "jobs/"+strange); !got.alone() {
			t.Errorf("%s is read as %+v: what nobody knows takes all", strange, got)
		}
	}
	if InLine("jobs/", "jobs/~10.#3") {
		t.Error("a slot stands in line")
	}
}

// The ranges that are compared are those of the other sizes, and of them only.
func TestOfOtherSizesAreAllWhoShareOtherwise(t *testing.T) {
	in := func(key, from, to string) bool { return key >= from && key < to }
	sizes := []Share{{Unlimited, 1}, {1, 1}, {9, 9}, {10, 1}, {10, 10}, {11, 1}, {100, 7}, {101, 1}}
	for _, mine := range sizes {
		cmps := mine.agreed("jobs/")
		for _, other := range append(sizes, Share{}) {
			for _, key := range []string{other.keys("jobs/") + "694d9a2b-17", other.keys("jobs/") + "f-1"} {
				refused := false
				for _, c := range cmps {
					r := c.GetCompare()
					refused = refused || in(key, string(r.Key), string(r.RangeEnd))
				}
				if want := !other.alone() && other.Size != mine.Size; refused != want {
					t.Errorf("for %+v the key %s is refused: %t, want %t", mine, key, refused, want)
				}
			}
		}
	}
	if !strings.HasPrefix(sizes[0].keys("jobs/"), "jobs/~") {
		t.Error("shares are not behind the mark")
	}
}

func TestWhoOwnsIsAsManyOfTheFirstAsThereIsRoomFor(t *testing.T) {
	alone, reads := Share{}, Share{Unlimited, 1}
	of10 := func(n int) Share { return Share{10, n} }
	for what, c := range map[string]struct {
		line []Share
		own  int
	}{
		"one alone":                           {[]Share{alone}, 1},
		"who takes all before the others":     {[]Share{alone, reads, reads}, 1},
		"readers":                             {[]Share{reads, reads, reads}, 3},
		"a writer holds back later readers":   {[]Share{reads, reads, alone, reads}, 2},
		"permits up to the size":              {[]Share{of10(4), of10(6), of10(1)}, 2},
		"a large one is not passed":           {[]Share{of10(6), of10(6), of10(1)}, 1},
		"all at once":                         {[]Share{of10(10), of10(1)}, 1},
		"of another size it waits":            {[]Share{of10(1), {5, 1}, of10(1)}, 1},
		"readers and permits do not mix":      {[]Share{reads, of10(1)}, 1},
		"more than there is owns when first":  {[]Share{{5, 5}, {5, 1}}, 1},
		"a writer after permits waits for it": {[]Share{of10(1), alone, of10(1)}, 1},
	} {
		var f filling
		own := 0
		for _, s := range c.line {
			if f.add(s) {
				own++
			}
		}
		if own != c.own {
			t.Errorf("%s: %d own, want %d", what, own, c.own)
		}
	}
}
