package latest_test

import (
	"sync"
	"testing"

	"github.com/etcdkit/etcdkit/internal/latest"
)

func TestMaxKeepsTheHighest(t *testing.T) {
	t.Parallel()
	var m latest.Max
	for _, n := range []int64{3, 7, 5, 7, 0, -1} {
		m.Raise(n)
	}
	if m.Get() != 7 {
		t.Errorf("the highest is %d", m.Get())
	}
	m.Forget(5)
	if m.Get() != 7 {
		t.Errorf("forgot %d, which is beyond 5", 7)
	}
	m.Forget(7)
	if m.Get() != 0 {
		t.Errorf("remembers %d", m.Get())
	}
}

func TestMaxRaisedByManyIsTheHighestOfAll(t *testing.T) {
	t.Parallel()
	const each, raisers = 1000, 8
	var (
		m       latest.Max
		raising sync.WaitGroup
	)
	for r := range int64(raisers) {
		raising.Go(func() {
			for n := range int64(each) {
				mine := n*raisers + r
				m.Raise(mine)
				if got := m.Get(); got < mine {
					t.Errorf("raised to %d, and got %d", mine, got)
				}
			}
		})
	}
	raising.Wait()
	if want := int64(each*raisers - 1); m.Get() != want {
		t.Errorf("the highest is %d, want %d", m.Get(), want)
	}
}
