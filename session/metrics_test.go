package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// Nobody has installed a provider here.
func TestWithoutAProviderASessionIsMeasuredForNothing(t *testing.T) {
	s := unwatched(time.Hour)
	s.end(ErrClosed)
	s.begun() // the map's first room
	s.over()
	if n := testing.AllocsPerRun(1000, func() {
		s.begun()
		countRenewal(acknowledged)
		countRenewal(notRenewed)
		s.over()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if slices.Contains(living.All(), s) {
		t.Error("a session that has ended is kept for ever")
	}
}

func TestOnlyTrustedSessionsAreInTheGauges(t *testing.T) {
	trusted, over := unwatched(time.Hour), unwatched(-time.Nanosecond)
	trusted.begun()
	over.begun()
	t.Cleanup(trusted.over)
	t.Cleanup(over.over)
	if all := trustedNow(); len(all) != 1 || all[0] != trusted {
		t.Errorf("%d sessions, want the one whose window is open", len(all))
	}
}

func TestEveryCauseHasAReason(t *testing.T) {
	for cause, want := range map[error]string{
		ErrClosed:       "closed",
		errRevoked:      "revoked",
		errOtherCluster: "untrusted",
		ErrLost:         "expired",
		fmt.Errorf("%w from 2 to 1", errRestored):                     "restored",
		fmt.Errorf("%w: unreachable: %w", ErrLost, errUnanswered):     "expired",
		errors.Join(errors.New("whatever"), context.DeadlineExceeded): "expired",
	} {
		if got := reason(cause).Value.AsString(); got != want {
			t.Errorf("%v: %s, want %s", cause, got, want)
		}
	}
}
