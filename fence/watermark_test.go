package fence_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/etcdkit/etcdkit/fence"
)

func TestAWatermarkAdmitsNoTokenBelowTheHighestItHasSeen(t *testing.T) {
	var w fence.Watermark
	for _, c := range []struct {
		token fence.Token
		lost  bool
	}{{5, false}, {5, false}, {4, true}, {9, false}, {5, true}, {9, false}, {1 << 62, false}, {9, true}} {
		if err := w.Admit(c.token); errors.Is(err, fence.ErrLost) != c.lost || !c.lost && err != nil {
			t.Errorf("token %d: %v, want lost: %t", c.token, err, c.lost)
		}
	}
}

func TestAWatermarkRefusesWhatNobodyOwns(t *testing.T) {
	var w fence.Watermark
	for _, token := range []fence.Token{0, -1} {
		if err := w.Admit(token); err == nil || errors.Is(err, fence.ErrLost) {
			t.Errorf("token %d: %v, want an error of its own", token, err)
		}
	}
	if err := w.Admit(1); err != nil {
		t.Errorf("what was refused has left a mark: %v", err)
	}
}

// What was admitted after a larger token had been is a write by an owner of the past.
func TestAWatermarkHoldsUnderConcurrency(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const writers, writes = 8, 2000
	var (
		w        fence.Watermark
		all      sync.WaitGroup
		admitted [writers][]fence.Token // in order
	)
	for i := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for range writes {
				token := 1 + fence.Token(random.Int64N(writes))
				if w.Admit(token) == nil {
					admitted[i] = append(admitted[i], token)
				}
			}
		})
	}
	all.Wait()
	var highest fence.Token
	for i, tokens := range admitted {
		for j, token := range tokens {
			highest = max(highest, token)
			if j > 0 && token < tokens[j-1] {
				t.Fatalf("writer %d was admitted with %d after %d", i, token, tokens[j-1])
			}
		}
	}
	if highest < 2 {
		t.Fatal("hardly anything was admitted")
	}
	if err := w.Admit(highest - 1); !errors.Is(err, fence.ErrLost) {
		t.Errorf("below the highest that was admitted: %v, want ErrLost", err)
	}
	if err := w.Admit(highest); err != nil {
		t.Errorf("the highest that was admitted: %v", err)
	}
}
