package registry

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestAPickFollowsTheViewAtOnce(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		all := crowd(3)
		v := viewOf(all[0])
		p := NewPicker(v, kind, nil)
		for n := range 30 {
			want := all[n%3]
			show(v, want)
			if got := pick(t, p, "k"); got.Instance != want {
				t.Fatalf("got %s, want %s, which is the only one", got.Instance.ID, want.ID)
			}
			draining := *want
			draining.State = Draining
			show(v, &draining)
			if got, err := p.Pick("k"); !errors.Is(err, ErrNoInstances) {
				t.Fatalf("got %+v, %v of one that drains", got.Instance, err)
			}
		}
	})
}

func TestAnInstanceThatChangesInPlaceIsPickedAsItIsNow(t *testing.T) {
	t.Parallel()
	all := crowd(1)
	v := viewOf(all...)
	p := NewPicker(v, LeastLoaded, nil)
	before := pick(t, p, "")
	heavier := *all[0]
	heavier.Weight = 700
	show(v, &heavier)
	after := pick(t, p, "")
	if after.Instance != &heavier || after.member != before.member || after.member.load.Load() != 2 {
		t.Errorf("got %+v with %d picks, want the newer one with 2", after.Instance, after.member.load.Load())
	}
}

// What was picked before an instance left must not make it look idle, or below, when it is back.
func TestAnInstanceThatComesBackIsNotChargedForWhatWasBefore(t *testing.T) {
	t.Parallel()
	for _, kind := range []PickKind{LeastLoaded, ConsistentHash} {
		all := crowd(2)
		v := viewOf(all[0])
		p := NewPicker(v, kind, nil)
		before := pick(t, p, "k")
		show(v, all[1])
		gone := pick(t, p, "k")
		moved := *all[0]
		moved.Addr = "10.9.9.9:80"
		for _, back := range []*Instance{all[0], &moved} {
			show(v, back)
			after := pick(t, p, "k")
			if n := after.member.load.Load(); n != 1 {
				t.Errorf("%s: %d picks, want 1", kind, n)
			}
			before.Done(nil)
			if n := after.member.load.Load(); n != 1 {
				t.Errorf("%s: %d picks after that of another life was done, want 1", kind, n)
			}
			before = after
		}
		before.Done(nil)
		gone.Done(nil)
		if all := p.groups[0].load.Load(); all != 0 {
			t.Errorf("%s: %d picks in all, want none", kind, all)
		}
	}
}

func TestNobodyWaitsForTheNextTable(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		all := crowd(2)
		v := viewOf(all[0])
		p := NewPicker(v, kind, nil)
		p.building.Lock() // by another goroutine, which takes its time
		show(v, all[1])
		if got := pick(t, p, "k"); got.Instance != all[0] {
			t.Errorf("got %s from a table that is not made yet", got.Instance.ID)
		}
		p.building.Unlock()
		if got := pick(t, p, "k"); got.Instance != all[1] {
			t.Errorf("got %s, which has left", got.Instance.ID)
		}
	})
}

// An error because of a table that is not made yet would be worse than the wait for it.
func TestTheFirstInstanceIsWaitedForWhileItsTableIsMade(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		v := viewOf()
		p := NewPicker(v, kind, nil)
		for range 100 {
			show(v)
			_, _ = p.Pick("k")
			p.building.Lock()
			show(v, crowd(1)...)
			got := make(chan error, 1)
			go func() {
				_, err := p.Pick("k")
				got <- err
			}()
			runtime.Gosched() // it finds the lock taken, if not each time
			p.building.Unlock()
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Instances come, go, change and fail while many pick: all that they get is ready, and in the end what is not done yet
// is nothing.
func TestPicksWhileInstancesComeAndGo(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		const steps = 300
		all := crowd(40, weights(50, 100, 400), func(i int, instance *Instance) { instance.Zone = []string{"a", "b"}[i%2] })
		v := viewOf(all...)
		p := NewPicker(v, kind, &PickOptions{Zone: "a", EjectFor: time.Millisecond})
		end := make(chan struct{})
		var pickers sync.WaitGroup
		for g := range 4 {
			pickers.Go(func() {
				var open []Pick
				for n := 0; ; n++ {
					select {
					case <-end:
						for i := range open {
							open[i].Done(nil)
						}
						return
					default:
					}
					got, err := p.Pick(fmt.Sprint(n % 100))
					if err != nil {
						t.Errorf("%v", err)
						continue
					}
					if got.Instance.State != Ready || got.Instance.Service != "mail" {
						t.Errorf("got %+v", got.Instance)
					}
					if open = append(open, got); len(open) > 10+g {
						var err error
						if n%3 != 0 {
							err = errors.New("failed")
						}
						open[0].Done(err)
						open = open[1:]
					}
				}
			})
		}
		for step := range steps {
			var list []*Instance
			for i, instance := range all {
				switch (i*7 + step) % 5 {
				case 0: // gone
				case 1:
					draining := *instance
					draining.State = Draining
					list = append(list, &draining)
				default:
					list = append(list, instance)
				}
			}
			show(v, list...)
			got := pick(t, p, "step")
			got.Done(nil)
		}
		close(end)
		pickers.Wait()
		show(v, all...)
		counts := tallied(t, p, 20_000)
		p.building.Lock()
		defer p.building.Unlock()
		if len(p.members) != len(all) || len(counts) < len(all)/4 {
			t.Errorf("%d members, %d of them picked, of %d", len(p.members), len(counts), len(all))
		}
		for _, m := range p.members {
			if n := m.load.Load(); n != 0 {
				t.Errorf("%s has %d picks that are not done", m.instance.ID, n)
			}
		}
		for g := range p.groups {
			if n := p.groups[g].load.Load(); n != 0 {
				t.Errorf("group %d has %d picks that are not done", g, n)
			}
		}
	})
}
