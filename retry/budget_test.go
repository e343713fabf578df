package retry

import (
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestABudgetPaysForRepeatsUntilItIsSpentAndFillsUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := plain(3)
		p.Budget = &Budget{PerSecond: 2, Burst: 3}
		repeats := func() (n int, err error) {
			fn, calls := script(errNoLeader, errNoLeader, errNoLeader)
			err = Do(t.Context(), p, fn)
			return *calls - 1, err
		}
		if n, err := repeats(); n != 2 || errors.Is(err, ErrBudget) {
			t.Errorf("with three tokens: %d repeats, %v", n, err)
		}
		n, err := repeats()
		if n != 1 || !errors.Is(err, ErrBudget) || !errors.Is(err, errNoLeader) || !Transient(err) {
			t.Errorf("with one token: %d repeats, %v", n, err)
		}
		if want := "retry: gave up after 2 attempts in 0s, as the budget for repeats is spent: etcdserver: no leader"; err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
		if n, err := repeats(); n != 0 || !errors.Is(err, ErrBudget) {
			t.Errorf("with none: %d repeats, %v", n, err)
		}
		<-time.After(500 * time.Millisecond)
		if n, _ := repeats(); n != 1 {
			t.Errorf("after half a second: %d repeats", n)
		}
		<-time.After(time.Hour)
		first, _ := repeats()
		second, _ := repeats()
		if first != 2 || second != 1 {
			t.Errorf("after an hour: %d and %d repeats: no more than the burst", first, second)
		}
	})
}

func TestABudgetIsNotAskedForWhatIsNotRepeated(t *testing.T) {
	t.Parallel()
	p := plain(5)
	p.Budget = &Budget{PerSecond: math.SmallestNonzeroFloat64, Burst: 1}
	for range 10 {
		fn, _ := script()
		if err := Do(t.Context(), p, fn); err != nil {
			t.Fatal(err)
		}
		fn, _ = script(errDenied)
		if err := Do(t.Context(), p, fn); !errors.Is(err, errDenied) || errors.Is(err, ErrBudget) {
			t.Fatal(err)
		}
	}
	fn, calls := script(errNoLeader)
	if err := Do(t.Context(), p, fn); err != nil || *calls != 2 {
		t.Errorf("%d calls, %v: the token was still there", *calls, err)
	}
}

func TestABudgetIsSharedByCallsAtOnce(t *testing.T) {
	t.Parallel()
	p := plain(-1)
	p.Budget = &Budget{PerSecond: math.SmallestNonzeroFloat64, Burst: 50}
	var (
		callers  sync.WaitGroup
		attempts atomic.Int64
	)
	for range 20 {
		callers.Go(func() {
			_ = Do(t.Context(), p, func(ctxT) error { attempts.Add(1); return errNoLeader })
		})
	}
	callers.Wait()
	if n := attempts.Load(); n != 70 {
		t.Errorf("%d attempts of 20 calls with 50 tokens", n)
	}
}

func TestTheZeroBudgetHasItsDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Budget{}
		take := func() (n int) {
			for b.take() {
				n++
			}
			return n
		}
		if n := take(); n != 100 {
			t.Errorf("it begins with %d tokens", n)
		}
		<-time.After(time.Second)
		if n := take(); n != 10 {
			t.Errorf("%d came back in a second", n)
		}
	})
}

func TestABadBudgetOrBreakerIsAnErrorThatNamesTheRule(t *testing.T) {
	t.Parallel()
	for rule, p := range map[string]Policy{
		"Budget.PerSecond must be a number":                {Budget: &Budget{PerSecond: -1}},
		"Budget.PerSecond must be a number of tokens, not": {Budget: &Budget{PerSecond: math.NaN()}},
		"Budget.PerSecond must be a number of":             {Budget: &Budget{PerSecond: math.Inf(1)}},
		"Budget.Burst must not be negative":                {Budget: &Budget{Burst: -1}},
		"Breaker.Rate must be at most 1, not 1.5":          {Breaker: &Breaker{Rate: 1.5}},
		"Breaker.Rate must be at most 1":                   {Breaker: &Breaker{Rate: math.NaN()}},
		"Breaker.MinCalls must not be negative":            {Breaker: &Breaker{MinCalls: -1}},
		"Breaker.Window must not be negative":              {Breaker: &Breaker{Window: -time.Second}},
		"Breaker.OpenFor must not be negative":             {Breaker: &Breaker{OpenFor: -time.Second}},
		"nothing would ever open it":                       {Breaker: &Breaker{Failures: -1, Rate: -1}},
	} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("got %v, want %q", err, rule)
		}
		fn, calls := script()
		if err := Do(t.Context(), p, fn); err == nil || *calls != 0 {
			t.Errorf("%s: Do made %d calls and returned %v", rule, *calls, err)
		}
	}
	if err := (Policy{Budget: &Budget{}, Breaker: &Breaker{Failures: -1}}).Validate(); err != nil {
		t.Error(err)
	}
}
