package registry

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/internal/latest"
)

// many is how many picks a distribution is judged by.
const many = 100_000

var kinds = []PickKind{RoundRobin, LeastLoaded, Weighted, ConsistentHash}

// viewOf returns a view without etcd, which lists the given instances.
func viewOf(list ...*Instance) *View {
	v := &View{service: &service{serviceKey: serviceKey{name: "mail"}}}
	v.cell.Store(latest.New(published{}))
	show(v, list...)
	return v
}

// show makes a view list the given instances, which are ordered by ID.
func show(v *View, list ...*Instance) {
	v.cell.Load().Set(published{Snapshot: Snapshot{Instances: list, Source: Live}})
}

// crowd returns n instances, each with what the edits make of it.
func crowd(n int, edits ...func(i int, instance *Instance)) []*Instance {
	all := make([]*Instance, n)
	for i := range all {
		all[i] = &Instance{
			Service: "mail",
			ID:      fmt.Sprintf("%05d", i),
			Addr:    fmt.Sprintf("10.0.%d.%d:80", i/250, i%250),
			Weight:  defaultWeight,
		}
		for _, edit := range edits {
			edit(i, all[i])
		}
	}
	return all
}

// weights gives the instances these weights, again and again.
func weights(w ...int) func(int, *Instance) {
	return func(i int, instance *Instance) { instance.Weight = w[i%len(w)] }
}

// pick returns a pick, and fails the test if there is none.
func pick(t testing.TB, p *Picker, key string) Pick {
	t.Helper()
	got, err := p.Pick(key)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// keys returns as many different keys as the longest test asks for.
var keys = sync.OnceValue(func() []string {
	all := make([]string, many)
	for i := range all {
		all[i] = fmt.Sprint("key ", i)
	}
	return all
})

// tallied makes n picks, of as many keys, each done before the next, and returns how often each instance came.
func tallied(t testing.TB, p *Picker, n int) map[string]int {
	t.Helper()
	byInstance := map[*Instance]int{}
	for i := range n {
		got := pick(t, p, keys()[i])
		byInstance[got.Instance]++
		got.Done(nil)
	}
	counts := map[string]int{}
	for instance, n := range byInstance {
		counts[instance.ID] += n
	}
	return counts
}

// proportional fails the test if counts, of picks that are independent, differ more from the shares of the total than
// chance lets them in one of a billion runs (chi-square, by the approximation of Wilson and Hilferty).
func proportional(t testing.TB, counts map[string]int, share map[string]float64) {
	t.Helper()
	var total, all, chi float64
	for id, n := range counts {
		total += float64(n)
		if share[id] == 0 {
			t.Errorf("%s was picked %d times, and has no share", id, n)
		}
	}
	for _, s := range share {
		all += s
	}
	for id, s := range share {
		want := s / all * total
		chi += (float64(counts[id]) - want) * (float64(counts[id]) - want) / want
	}
	free := float64(len(share) - 1)
	const sigmas = 6
	bound := free * math.Pow(1-2/(9*free)+sigmas*math.Sqrt(2/(9*free)), 3)
	if chi > bound {
		t.Errorf("chi-square %.1f over %.1f: %v are not as %v", chi, bound, counts, share)
	}
}

func sharesOf(list []*Instance) map[string]float64 {
	share := map[string]float64{}
	for _, i := range list {
		share[i.ID] = float64(i.Weight)
	}
	return share
}

// each runs a test with every kind.
func each(t *testing.T, test func(*testing.T, PickKind)) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestOnlyReadyInstancesArePicked(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		all := crowd(9, func(i int, instance *Instance) { instance.State = []State{Ready, Starting, Draining}[i%3] })
		counts := tallied(t, NewPicker(viewOf(all...), kind, nil), 1000)
		if len(counts) != 3 || counts["00000"] == 0 || counts["00003"] == 0 || counts["00006"] == 0 {
			t.Errorf("picked %v, want the three that are ready", counts)
		}
	})
}

func TestWithoutReadyInstancesTheErrorSaysWhy(t *testing.T) {
	t.Parallel()
	v := viewOf()
	p := NewPicker(v, RoundRobin, nil)
	for _, c := range []struct {
		list []*Instance
		want string
	}{
		{nil, `registry "mail": registry: no instance to pick: none is listed`},
		{
			crowd(5, func(i int, instance *Instance) { instance.State = []State{Starting, Draining}[i/3] }),
			`registry "mail": registry: no instance to pick: of 5 listed, 3 are starting and 2 draining`,
		},
	} {
		show(v, c.list...)
		got, err := p.Pick("")
		if !errors.Is(err, ErrNoInstances) || err.Error() != c.want || got.Instance != nil {
			t.Errorf("got %+v, %v, want %s", got.Instance, err, c.want)
		}
		got.Done(nil) // does nothing
	}
}

func TestAStaleListIsPickedFrom(t *testing.T) {
	t.Parallel()
	for _, source := range []Source{Stale, Disk} {
		v := viewOf()
		v.cell.Load().Set(published{Snapshot: Snapshot{Instances: crowd(1), Source: source}})
		if _, err := NewPicker(v, RoundRobin, nil).Pick(""); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestDoneCountsOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []PickKind{LeastLoaded, ConsistentHash} {
		p := NewPicker(viewOf(crowd(1)...), kind, nil)
		first, second := pick(t, p, "k"), pick(t, p, "k")
		if n := first.member.load.Load(); n != 2 {
			t.Errorf("%s: %d picks, want 2", kind, n)
		}
		first.Done(nil)
		first.Done(nil)
		if n := second.member.load.Load(); n != 1 {
			t.Errorf("%s: %d picks after one was done twice, want 1", kind, n)
		}
		second.Done(nil)
		if n, all := second.member.load.Load(), p.groups[0].load.Load(); n != 0 || all != 0 {
			t.Errorf("%s: %d picks, %d in all, want none", kind, n, all)
		}
	}
}

func TestAnotherIsNoneOfThoseTried(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		all := crowd(6, func(i int, instance *Instance) { instance.Zone = []string{"a", "b"}[i%2] })
		p := NewPicker(viewOf(all...), kind, &PickOptions{Zone: "a"})
		for range 100 {
			var tried []Pick
			seen := map[string]bool{}
			for range all {
				next, ok := p.another("k", tried)
				if !ok || seen[next.Instance.ID] {
					t.Fatalf("got %+v, %t after %v", next.Instance, ok, seen)
				}
				seen[next.Instance.ID] = true
				if len(seen) <= 3 && next.Instance.Zone != "a" {
					t.Fatalf("got one of the other zone after %v", seen)
				}
				tried = append(tried, next)
			}
			if next, ok := p.another("k", tried); ok {
				t.Fatalf("got %+v after all", next.Instance)
			}
			for i := range tried {
				tried[i].Done(nil)
			}
		}
	})
}

func TestAKindOrAnOptionOutOfRangePanicsWithTheRule(t *testing.T) {
	t.Parallel()
	v := viewOf()
	for want, c := range map[string]struct {
		kind PickKind
		opts PickOptions
	}{
		"PickKind 0 refused":            {0, PickOptions{}},
		"PickKind 5 refused":            {5, PickOptions{}},
		"ZoneShare 1.1 refused":         {RoundRobin, PickOptions{ZoneShare: 1.1}},
		"ZoneShare -0.5 refused":        {RoundRobin, PickOptions{ZoneShare: -0.5}},
		"ZoneShare NaN refused":         {RoundRobin, PickOptions{ZoneShare: math.NaN()}},
		"LoadBound 1 refused":           {RoundRobin, PickOptions{LoadBound: 1}},
		"EjectFor -1s refused":          {RoundRobin, PickOptions{EjectFor: -time.Second}},
		"EjectMax 1s refused: it is un": {RoundRobin, PickOptions{EjectFor: 2 * time.Second, EjectMax: time.Second}},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}()
			NewPicker(v, c.kind, &c.opts)
		}()
	}
	for _, kind := range kinds {
		NewPicker(v, kind, &PickOptions{LoadBound: -1, EjectAfter: -1, ZoneShare: 1, EjectFor: time.Hour})
	}
}

func TestAPickDoesNotAllocate(t *testing.T) {
	for _, kind := range kinds {
		all := crowd(100, weights(100, 200, 300), func(i int, instance *Instance) { instance.Zone = []string{"a", "b", "b"}[i%3] })
		p := NewPicker(viewOf(all...), kind, &PickOptions{Zone: "a", ZoneShare: 1})
		if n := testing.AllocsPerRun(1000, func() {
			got, _ := p.Pick("key")
			got.Done(nil)
		}); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}
