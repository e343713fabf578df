package batch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// start is when the tests of the buffer begin: it knows no time but what it is told.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newBuffer(maxOps, maxBytes int) *buffer {
	return &buffer{maxOps: maxOps, maxBytes: maxBytes, interval: time.Second, keys: make(map[string]*write)}
}

// put adds a put of ten bytes.
func put(b *buffer, key, value string) *write {
	w, _ := b.add(write{key: key, value: value, size: 10}, start)
	return w
}

// content is a transaction, for people.
func content(cargo []*write) string {
	all := make([]string, len(cargo))
	for i, w := range cargo {
		all[i] = w.key + "=" + w.value
	}
	return strings.Join(all, " ")
}

func TestOperationsOnAKeyInTheBufferCoalesceInThePlaceOfTheFirst(t *testing.T) {
	b := newBuffer(128, 1000)
	first := put(b, "a", "1")
	put(b, "b", "1")
	second, replaced := b.add(write{key: "a", deletes: true, size: 4}, start)
	if second != first || first.made != 2 || replaced != 10 {
		t.Errorf("%p and %p, which stands for %d, gave up %d", first, second, first.made, replaced)
	}
	if b.bytes != 14 || b.open != 2 {
		t.Errorf("%d bytes in %d writes, want 14 in 2", b.bytes, b.open)
	}
	cargo := b.cut()
	if len(cargo) != 2 || cargo[0] != first || !first.deletes || first.value != "" {
		t.Errorf("cut %s", content(cargo))
	}
}

func TestAKeyInFlightIsNotSentBeforeItsFateIsKnown(t *testing.T) {
	b := newBuffer(1, 1000)
	first := put(b, "k", "1")
	if got := content(b.cut()); got != "k=1" {
		t.Fatal(got)
	}
	second := put(b, "k", "2")
	if third := put(b, "k", "3"); third != second || second == first || second.made != 2 {
		t.Errorf("what was made while k is in flight: %+v and %+v", second, third)
	}
	put(b, "other", "1")
	if got := content(b.cut()); got != "other=1" {
		t.Errorf("cut %s while k is in flight", got)
	}
	if b.due(start, true) || b.bytes != 0 {
		t.Errorf("%d bytes are due, of a key in flight", b.bytes)
	}
	b.land(first, fate{revision: 7}, start.Add(time.Minute))
	if !first.settled || first.revision != 7 || second.settled {
		t.Errorf("fates: %+v, %+v", first, second)
	}
	if b.due(start.Add(time.Minute), false) != true || b.bytes != 10 { // MaxOps is 1
		t.Errorf("after the fate is known: %d bytes", b.bytes)
	}
	if got := content(b.cut()); got != "k=3" {
		t.Errorf("cut %s", got)
	}
	b.land(second, fate{}, start)
	if len(b.keys) != 1 || b.open != 1 { // other
		t.Errorf("%d keys and %d writes are left", len(b.keys), b.open)
	}
}

func TestTransactionsAreCutByOperationsAndBytesInOrder(t *testing.T) {
	for _, c := range []struct {
		maxOps, maxBytes int
		sizes            []int
		want             []int // writes a transaction
	}{
		{128, 1000, []int{10, 10, 10}, []int{3}},
		{2, 1000, []int{10, 10, 10}, []int{2, 1}},
		{128, 20, []int{10, 10, 10}, []int{2, 1}},
		{128, 20, []int{10, 11, 10}, []int{1, 1, 1}},
		{128, 20, []int{20, 1, 19, 20}, []int{1, 2, 1}},
		{128, 20, []int{15, 15, 5}, []int{1, 2}}, // the last does not pass the second
	} {
		b := newBuffer(c.maxOps, c.maxBytes)
		for i, size := range c.sizes {
			b.add(write{key: fmt.Sprint(i), size: size}, start)
		}
		var got []int
		next := 0
		for len(b.ready) > 0 {
			cargo := b.cut()
			for _, w := range cargo {
				if w.key != fmt.Sprint(next) {
					t.Errorf("%+v: %s is sent before %d", c, w.key, next)
				}
				next++
			}
			got = append(got, len(cargo))
		}
		if !slices.Equal(got, c.want) || b.bytes != 0 {
			t.Errorf("%+v: cut %v, with %d bytes left", c, got, b.bytes)
		}
	}
}

func TestATransactionIsDueWhenItIsFullOrOldOrSomebodyWaits(t *testing.T) {
	b := newBuffer(3, 40)
	if b.due(start.Add(time.Hour), true) {
		t.Error("an empty one is due")
	}
	put(b, "a", "")
	put(b, "b", "")
	if b.due(start.Add(time.Second-1), false) || b.wait(start.Add(time.Second-1)) != 1 {
		t.Error("due though it is neither full nor old")
	}
	if !b.due(start.Add(time.Second), false) {
		t.Error("not due though it is old")
	}
	if !b.due(start, true) {
		t.Error("not due though somebody waits")
	}
	put(b, "c", "")
	if !b.due(start, false) {
		t.Error("not due though it has its operations")
	}
	b = newBuffer(3, 40)
	b.add(write{key: "a", size: 39}, start)
	if b.due(start, false) {
		t.Error("due with a byte to spare")
	}
	b.add(write{key: "a", size: 40}, start)
	if !b.due(start, false) {
		t.Error("not due though it has its bytes")
	}
}

func TestWhatIsDroppedIsWhatWasNotSent(t *testing.T) {
	b := newBuffer(1, 1000)
	flying := put(b, "a", "1")
	b.cut()
	behind := put(b, "a", "2")
	ready := put(b, "b", "1")
	dropped := b.drop(fate{verdict: ErrNotApplied})
	if len(dropped) != 2 || !behind.settled || !ready.settled || flying.settled || b.open != 1 || b.due(start, true) {
		t.Errorf("dropped %s; %d are left", content(dropped), b.open)
	}
	b.land(flying, fate{}, start)
	if b.open != 0 || len(b.keys) != 0 || b.due(start, true) {
		t.Errorf("left: %d writes, %d keys", b.open, len(b.keys))
	}
}

// The rule on one key, under everything that can happen: whatever the order in which transactions land.
func TestTheBufferKeepsTheOrderOfEveryKey(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const keys, maxOps, maxBytes = 12, 5, 60
	var (
		b       = newBuffer(maxOps, maxBytes)
		flights [][]*write
		made    [keys]int // the number of the last operation on each key
		landed  [keys]int // the number of the last one that was sent and landed
		inAir   = map[string]bool{}
	)
	number := func(w *write) (key, n int) {
		if _, err := fmt.Sscanf(w.key+" "+w.value, "%d %d", &key, &n); err != nil {
			t.Fatal(err)
		}
		return key, n
	}
	for step := range 20_000 {
		switch random.IntN(4) {
		case 0, 1:
			k := random.IntN(keys)
			made[k]++
			w, _ := b.add(write{key: fmt.Sprint(k), value: fmt.Sprint(made[k]), size: 1 + random.IntN(maxBytes)}, start)
			if _, n := number(w); n != made[k] {
				t.Fatalf("step %d: operation %d on %d is %d", step, made[k], k, n)
			}
		case 2:
			if len(b.ready) == 0 || len(flights) == 4 {
				continue
			}
			cargo := b.cut()
			size := 0
			for _, w := range cargo {
				size += w.size
				if inAir[w.key] {
					t.Fatalf("step %d: key %s is sent while it is in flight", step, w.key)
				}
				inAir[w.key] = true
			}
			if len(cargo) == 0 || len(cargo) > maxOps || size > maxBytes {
				t.Fatalf("step %d: a transaction of %d operations and %d bytes", step, len(cargo), size)
			}
			flights = append(flights, cargo)
		case 3:
			if len(flights) == 0 {
				continue
			}
			i := random.IntN(len(flights)) // they overtake each other
			for _, w := range flights[i] {
				k, n := number(w)
				if n <= landed[k] {
					t.Fatalf("step %d: operation %d on %d lands after %d", step, n, k, landed[k])
				}
				landed[k] = n
				delete(inAir, w.key)
				b.land(w, fate{}, start)
			}
			flights = slices.Delete(flights, i, i+1)
		}
		size := 0
		for _, w := range b.ready {
			size += w.size
		}
		if size != b.bytes {
			t.Fatalf("step %d: %d bytes are ready, and %d are counted", step, size, b.bytes)
		}
	}
	for _, cargo := range flights {
		for _, w := range cargo {
			k, n := number(w)
			landed[k] = n
			b.land(w, fate{}, start)
		}
	}
	for len(b.ready) > 0 {
		for _, w := range b.cut() {
			k, n := number(w)
			landed[k] = n
			b.land(w, fate{}, start)
		}
	}
	if landed != made || b.open != 0 || len(b.keys) != 0 {
		t.Errorf("made %v, landed %v; %d writes and %d keys are left", made, landed, b.open, len(b.keys))
	}
}
