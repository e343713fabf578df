package registry

import (
	"fmt"
	"math"
	"testing"
)

// zoned returns ready instances: so many in each zone, "a" first.
func zoned(sizes ...int) (all []*Instance) {
	for z, n := range sizes {
		for i := range n {
			all = append(all, &Instance{ID: fmt.Sprintf("%c%03d", 'a'+z, i), Addr: "10.0.0.7:80", Weight: 100, Zone: string(rune('a' + z))})
		}
	}
	return all
}

func TestPicksStayInTheZoneWhileItHasItsShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		near, far uint64
		zones     int
		share     float64
		want      float64
	}{
		{1000, 2000, 3, 0.8, 1},
		{800, 2200, 3, 0.8, 1},
		{799, 2201, 3, 0.8, 0.99875},
		{400, 2600, 3, 0.8, 0.5},
		{0, 3000, 3, 0.8, 0},
		{500, 2500, 3, 1, 0.5},
		{500, 2500, 3, 0.5, 1},
		{100, 0, 1, 0.8, 1},
		{100, 0, 3, 0.8, 1}, // all others have failed
		{10, 10, 1, 1, 0.5},
		{0, 0, 0, 0.8, 1},
	} {
		got := float64(stay(c.near, c.far, c.zones, c.share)) / math.MaxUint64
		if math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestZonesAreCountedWhateverTheStateOfTheirInstances(t *testing.T) {
	t.Parallel()
	all := zoned(3, 3, 3)
	for _, i := range all[6:] {
		i.State = Draining
	}
	all[0].Zone, all[4].Zone = "", ""
	if n := zones(all); n != 4 {
		t.Errorf("got %d zones, want a, b, c and none", n)
	}
	if n := zones(nil); n != 0 {
		t.Errorf("got %d zones of nothing", n)
	}
}

// Chi-square where picks are independent; with what takes turns, chance is in the zone only, and it is sharper.
func TestPicksSpillOverInProportion(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		for _, c := range []struct {
			list  []*Instance
			share float64
			local float64 // of all picks
		}{
			{zoned(10, 10, 10), 0, 1},
			{zoned(7, 10, 10), 0, 7 / (0.8 * 9)},
			{zoned(3, 10, 10), 0, 3 / (0.8 * 23 / 3)},
			{zoned(3, 10, 10), 0.3, 1},
			{zoned(0, 10, 20), 0, 0},
			{zoned(5), 0, 1},
		} {
			counts := tallied(t, NewPicker(viewOf(c.list...), kind, &PickOptions{Zone: "a", ZoneShare: c.share}), many)
			byZone := map[string]int{}
			size, zoneShare := map[string]float64{}, map[string]float64{}
			for _, i := range c.list {
				byZone[i.Zone] += counts[i.ID]
				size[i.Zone]++
			}
			share := map[string]float64{}
			for _, i := range c.list {
				part := c.local / size["a"]
				if i.Zone != "a" {
					part = (1 - c.local) / (size["b"] + size["c"])
				}
				if part > 0 {
					share[i.ID] = part
					zoneShare[i.Zone] += part
				}
			}
			if kind == ConsistentHash { // whose shares are those of its points
				local := float64(byZone["a"]) / many
				if math.Abs(local-c.local) > 0.02 {
					t.Errorf("%.4f of the keys stay, want %.4f", local, c.local)
				}
				continue
			}
			proportional(t, counts, share)
			if len(zoneShare) > 1 {
				proportional(t, byZone, zoneShare)
			}
		}
	})
}

func TestAKeyIsInTheZoneOrNot(t *testing.T) {
	t.Parallel()
	p := NewPicker(viewOf(zoned(3, 10, 10)...), ConsistentHash, &PickOptions{Zone: "a"})
	first, second := owners(t, p, 1000), owners(t, p, 1000)
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("key %d went to %s and then to %s", i, first[i], second[i])
		}
	}
}

func TestWeightsCountForAZoneAndEjectionsToo(t *testing.T) {
	t.Parallel()
	all := zoned(4, 4)
	p := NewPicker(viewOf(all...), RoundRobin, &PickOptions{Zone: "a", ZoneShare: 1})
	if counts := tallied(t, p, 1000); len(counts) != 4 {
		t.Errorf("picked %v, want those of zone a", counts)
	}
	eject(t, p, "a000", "a001")
	counts := tallied(t, p, many)
	// Two of six: 2/3 of the fair three.
	share := map[string]float64{"a002": 1.0 / 3, "a003": 1.0 / 3, "b000": 1.0 / 12, "b001": 1.0 / 12, "b002": 1.0 / 12, "b003": 1.0 / 12}
	proportional(t, counts, share)

	all = zoned(4, 4)
	for _, i := range all[:4] {
		i.Weight = 40
	}
	counts = tallied(t, NewPicker(viewOf(all...), RoundRobin, &PickOptions{Zone: "a"}), many)
	if local, want := float64(counts["a000"])/many*4, 160/(0.8*560/2); math.Abs(local-want) > 0.015 {
		t.Errorf("%.3f stay, want %.3f", local, want)
	}
}
