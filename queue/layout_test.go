package queue

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// somePlace is any place, of few producers and times, so that they often differ in one thing only.
func somePlace(random *rand.Rand) place {
	p := place{
		priority: random.IntN(2*MaxPriority+1) - MaxPriority,
		stem:     stemOf([]int64{0, 1, 15, 16, 1 << 50, lastClock}[random.IntN(6)], []string{"a", "a1", "b"}[random.IntN(3)]),
		delayed:  random.IntN(2) == 0,
	}
	if random.IntN(2) == 0 {
		p.key = keyHash("k")
	}
	return p
}

func TestAPlaceIsReadAsItWasWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		p := somePlace(random)
		got, err := parsePlace(p.path())
		if err != nil || got != p {
			t.Fatalf("%+v is %q, and that is %+v, %v", p, p.path(), got, err)
		}
	}
}

func TestTheOrderOfPathsIsThatOfTheLine(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		a, b := somePlace(random), somePlace(random)
		line := cmp.Or(-cmp.Compare(a.priority, b.priority), cmp.Compare(a.clock(), b.clock()))
		if line != 0 && strings.Compare(a.path(), b.path()) != line {
			t.Fatalf("%q and %q are in line as %d", a.path(), b.path(), line)
		}
	}
}

func TestEveryPriorityHasARank(t *testing.T) {
	var ranks []string
	for p := MaxPriority; p >= -MaxPriority; p-- {
		ranks = append(ranks, rank(p))
	}
	if ranks[0] != "001" || ranks[MaxPriority] != "100" || ranks[len(ranks)-1] != "199" || !slices.IsSorted(ranks) {
		t.Error(ranks)
	}
}

func TestAPlaceTellsItsTime(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 30, 0, 125_000, time.UTC)
	p := place{stem: stemOf(at.UnixMicro(), "a")}
	if !p.at().Equal(at) {
		t.Errorf("%v, want %v", p.at(), at)
	}
	if year := time.UnixMicro(lastClock).UTC().Year(); year != 2112 {
		t.Errorf("the last is of %d", year)
	}
}

func TestWhatIsNoPlaceIsRefused(t *testing.T) {
	good := place{stem: stemOf(1, "a"), delayed: true, key: keyHash("k")}.path()
	if _, err := parsePlace(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "/", "100", "100/", "100/0000000000001", "100/0000000000001-", "100/-a", "000/0000000000001-a", "200/0000000000001-a",
		"1000/0000000000001-a", "+10/0000000000001-a", "99/0000000000001-a", "100/000000000001-a", "100/00000000000001-a",
		"100/000000000000g-a", "100/-000000000001-a", "100/+000000000001-a", "100/0000000000001-a/b", "100/0000000000001-a-d-d",
		"100/0000000000001-a-x", "100/0000000000001-a.", good + "/", "/" + good, "100/000000000000A-a",
	} {
		if p, err := parsePlace(bad); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("100/0000000000001-a")
	f.Add("001/fffffffffffff-abcdefgh1-d." + keyHash("k"))
	f.Add("100/00000000000-1-a")
	f.Fuzz(func(t *testing.T, path string) {
		p, err := parsePlace(path)
		if err != nil {
			return
		}
		if p.path() != path {
			t.Errorf("%q is %+v, and that is %q", path, p, p.path())
		}
		if p.priority < -MaxPriority || p.priority > MaxPriority {
			t.Errorf("%q has priority %d", path, p.priority)
		}
		if c := p.clock(); c < 0 || c > lastClock {
			t.Errorf("%q has clock %d", path, c)
		}
	})
}
