package queue

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReadingsAreGivenOutOnceAndInOrder(t *testing.T) {
	p := newProducer()
	const takers, takes = 8, 1000
	var (
		mu    sync.Mutex
		all   []int64
		going sync.WaitGroup
	)
	for n := 1; n <= takers; n++ {
		going.Go(func() {
			last := int64(0)
			for range takes {
				first := p.take(n)
				if first <= last {
					t.Errorf("%d after %d", first, last)
				}
				last = first + int64(n) - 1
				mu.Lock()
				for i := range int64(n) {
					all = append(all, first+i)
				}
				mu.Unlock()
			}
		})
	}
	going.Wait()
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != takes*takers*(takers+1)/2 {
		t.Errorf("%d different readings", n)
	}
}

func TestAClockThatIsSetBackGoesOn(t *testing.T) {
	p := newProducer()
	ahead := time.Now().Add(time.Hour).UnixMicro()
	p.last = ahead
	if first := p.take(2); first != ahead+1 {
		t.Errorf("%d, want %d", first, ahead+1)
	}
	if first := p.take(1); first != ahead+3 {
		t.Errorf("%d, want %d", first, ahead+3)
	}
}

// The clock comes to the time of a delayed job, and other delays end then, too.
func TestStemsOfOneTimeDiffer(t *testing.T) {
	p := newProducer()
	stems := []string{p.stem(7), p.stemDue(7), p.stemDue(7)}
	slices.Sort(stems)
	if len(slices.Compact(stems)) != 3 {
		t.Error(stems)
	}
	for _, s := range stems {
		if q, err := parsePlace(place{stem: s, delayed: true}.path()); err != nil || q.clock() != 7 || !strings.HasPrefix(s[clockDigits+1:], p.id) {
			t.Errorf("%q: %+v, %v", s, q, err)
		}
	}
}

func TestProducersDiffer(t *testing.T) {
	if a, b := newProducer().id, newProducer().id; a == b || len(a) != 8 || strings.ContainsAny(a, "-/.") {
		t.Errorf("%q, %q", a, b)
	}
}
