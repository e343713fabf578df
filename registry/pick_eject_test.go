package registry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

var errFailed = errors.New("failed")

// seatOf returns the seat of an instance in the current table, or nil.
func seatOf(p *Picker, id string) *seat {
	t := p.table.Load()
	if !p.current(t) {
		t = p.renew(t)
	}
	for _, g := range []group{t.near, t.far} {
		for i := range g.seats {
			if g.seats[i].instance.ID == id {
				return &g.seats[i]
			}
		}
	}
	return nil
}

// ends ends picks of an instance with these errors.
func ends(t testing.TB, p *Picker, id string, errs ...error) {
	t.Helper()
	for _, err := range errs {
		s := seatOf(p, id)
		if s == nil {
			t.Fatalf("%s is not among those that are picked", id)
		}
		got := p.take(s)
		got.Done(err)
	}
}

func failures(n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = errFailed
	}
	return errs
}

// eject makes instances fail until they are left out.
func eject(t testing.TB, p *Picker, ids ...string) {
	t.Helper()
	for _, id := range ids {
		ends(t, p, id, failures(5)...)
		if seatOf(p, id) != nil {
			t.Fatalf("%s is picked after 5 failures", id)
		}
	}
}

// outFor returns how long an instance is left out from now, to the second.
func outFor(t testing.TB, p *Picker, id string) time.Duration {
	t.Helper()
	begin := time.Now()
	for seatOf(p, id) == nil {
		timer := time.NewTimer(time.Second)
		<-timer.C
		synctest.Wait() // what ends in this instant has ended
		if time.Since(begin) > time.Hour {
			t.Fatalf("%s is not back after an hour", id)
		}
	}
	return time.Since(begin)
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFiveFailuresRunningEject(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPicker(viewOf(crowd(4)...), kind, nil)
			ends(t, p, "00001", failures(4)...)
			ends(t, p, "00001", nil)
			ends(t, p, "00001", failures(4)...)
			if counts := tallied(t, p, 1000); counts["00001"] == 0 {
				t.Errorf("left out after four failures: %v", counts)
			} // whose picks were successes
			ends(t, p, "00001", failures(4)...)
			ends(t, p, "00001", context.Canceled, fmt.Errorf("get: %w", context.Canceled), grpcstatus.Error(codes.Canceled, "")) // neither nor
			if seatOf(p, "00001") == nil {
				t.Error("left out because callers gave up")
			}
			ends(t, p, "00001", context.DeadlineExceeded)
			if counts := tallied(t, p, 1000); counts["00001"] != 0 || len(counts) != 3 {
				t.Errorf("picked after five failures running: %v", counts)
			}
			if d := outFor(t, p, "00001"); d != 10*time.Second {
				t.Errorf("was left out for %v", d)
			}
			if counts := tallied(t, p, 1000); counts["00001"] == 0 {
				t.Errorf("not picked when it was back: %v", counts)
			}
		})
	})
}

func TestAnEjectionLastsTwiceAsLongEachTimeUpToABound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPicker(viewOf(crowd(4)...), RoundRobin, nil)
		for _, want := range []float64{10, 20, 40, 80, 160, 300, 300} {
			eject(t, p, "00001")
			if d := outFor(t, p, "00001"); d.Seconds() != want {
				t.Errorf("was left out for %v, want %v s", d, want)
			}
		}
		// Back for not quite as long as it was left out, it is the same trouble still.
		pass(299 * time.Second)
		eject(t, p, "00001")
		if d := outFor(t, p, "00001"); d != 300*time.Second {
			t.Errorf("was left out for %v", d)
		}
		pass(300 * time.Second)
		eject(t, p, "00001")
		if d := outFor(t, p, "00001"); d != 10*time.Second {
			t.Errorf("was left out for %v after a long time without failures", d)
		}
	})
}

func TestOptionsSayWhatEjectsAndForHowLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("mine")
		p := NewPicker(viewOf(crowd(4)...), RoundRobin, &PickOptions{
			EjectAfter: 2,
			EjectFor:   3 * time.Second,
			EjectMax:   5 * time.Second,
			IsFailure:  func(err error) bool { return errors.Is(err, mine) },
		})
		ends(t, p, "00001", failures(50)...)
		ends(t, p, "00001", mine)
		ends(t, p, "00001", mine)
		if d := outFor(t, p, "00001"); d != 3*time.Second {
			t.Errorf("was left out for %v", d)
		}
		ends(t, p, "00001", mine, mine)
		if d := outFor(t, p, "00001"); d != 5*time.Second {
			t.Errorf("was left out for %v", d)
		}
		never := NewPicker(viewOf(crowd(4)...), RoundRobin, &PickOptions{EjectAfter: -1})
		ends(t, never, "00001", failures(50)...)
	})
}

func TestAtMostHalfAreEjected(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 0, 2: 1, 3: 1, 10: 5, 11: 5} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPicker(viewOf(crowd(n)...), RoundRobin, nil)
			for range 20 * n {
				got := pick(t, p, "")
				got.Done(errFailed)
			}
			if counts := tallied(t, p, 100); len(counts) != n-want {
				t.Errorf("of %d that all fail %d are left out, want %d", n, n-len(counts), want)
			}
		})
	}
}

// Those that are not ready are no ground for leaving out one more of those that are.
func TestHalfIsOfThoseThatAreReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := crowd(9, func(i int, instance *Instance) {
			if i >= 5 {
				instance.State = Starting
			}
		})
		p := NewPicker(viewOf(all...), RoundRobin, nil)
		eject(t, p, "00000", "00001")
		ends(t, p, "00002", failures(50)...)
		if counts := tallied(t, p, 100); len(counts) != 3 || counts["00002"] == 0 {
			t.Errorf("picked %v, want 2, which came too late to be left out, 3 and 4", counts)
		}
	})
}

// When the ready ones become fewer, those that would be back first are back at once.
func TestEjectionsEndEarlyWhenInstancesLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := crowd(6)
		v := viewOf(all...)
		p := NewPicker(v, RoundRobin, nil)
		for _, id := range []string{"00000", "00001", "00002"} {
			eject(t, p, id)
			pass(time.Second)
		}
		show(v, all[:4]...)
		if counts := tallied(t, p, 100); len(counts) != 2 || counts["00000"] == 0 || counts["00003"] == 0 {
			t.Errorf("picked %v, want 0, which was to be back first, and 3", counts)
		}
		show(v, all[2])
		if counts := tallied(t, p, 100); counts["00002"] != 100 {
			t.Errorf("picked %v, want the only one there is", counts)
		}
	})
}

// A hung instance: its calls end by their timeout, long after it was ejected, and when it is back and well.
func TestWhatWasPickedBeforeAnEjectionSaysNothingOfAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPicker(viewOf(crowd(4)...), RoundRobin, nil)
		var hung []Pick
		for range 20 {
			hung = append(hung, p.take(seatOf(p, "00001")))
		}
		eject(t, p, "00001")
		for i := range 10 {
			hung[i].Done(errFailed)
		}
		if d := outFor(t, p, "00001"); d != 10*time.Second {
			t.Errorf("was left out for %v", d)
		}
		for i := 10; i < 15; i++ {
			hung[i].Done(errFailed)
		}
		ends(t, p, "00001", failures(4)...) // which finds it there
		hung[15].Done(nil)
		ends(t, p, "00001", errFailed)
		if seatOf(p, "00001") != nil {
			t.Error("a success of before counts after")
		}
	})
}

// An instance that is restarted elsewhere is not what failed; one whose record changes is.
func TestAnEjectionIsOfAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := crowd(4)
		v := viewOf(all...)
		p := NewPicker(v, RoundRobin, nil)
		eject(t, p, "00001")
		heavier := *all[1]
		heavier.Weight = 300
		show(v, all[0], &heavier, all[2], all[3])
		if seatOf(p, "00001") != nil {
			t.Error("a change of weight has ended an ejection")
		}
		moved := *all[1]
		moved.Addr = "10.9.9.9:80"
		show(v, all[0], &moved, all[2], all[3])
		if seatOf(p, "00001") == nil {
			t.Error("the one at another address is left out")
		}
	})
}

func TestEachKindIsFairAmongThoseThatAreLeft(t *testing.T) {
	each(t, func(t *testing.T, kind PickKind) {
		if kind == ConsistentHash {
			t.Skip("see TestAnEjectedInstanceLosesItsKeysOnlyAndAnotherStateToo")
		}
		list := crowd(20, weights(100, 250))
		p := NewPicker(viewOf(list...), kind, &PickOptions{EjectFor: time.Hour})
		eject(t, p, "00003", "00004", "00005")
		share := sharesOf(list)
		for _, id := range []string{"00003", "00004", "00005"} {
			delete(share, id)
		}
		if kind == RoundRobin {
			for id := range share {
				share[id] = 1
			}
		}
		proportional(t, tallied(t, p, many), share)
	})
}
