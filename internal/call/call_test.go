package call

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lasts returns how long a context lives, in the time of a bubble.
func lasts(ctx context.Context) time.Duration {
	start := time.Now()
	<-ctx.Done()
	return time.Since(start)
}

func TestAReleaseGoesOnForAMomentAfterItsCallersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		caller, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		free, stop := Release(caller, time.Hour)
		defer stop()
		if free.Value(key{}) != "value" {
			t.Error("the caller's values are lost")
		}
		time.AfterFunc(time.Minute, cancel)
		if d := lasts(free); d != time.Minute+grace {
			t.Errorf("lasts %v, want the caller's minute and %v", d, grace)
		}
	})
}

func TestAReleaseUnderAContextThatHasEndedHasAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, cancel := context.WithCancel(t.Context())
		cancel()
		free, stop := Release(done, time.Hour)
		defer stop()
		if free.Err() != nil {
			t.Fatal("it has ended at once")
		}
		if d := lasts(free); d != grace {
			t.Errorf("lasts %v, want %v", d, grace)
		}
	})
}

func TestAReleaseEndsWithItsLimitAndWhenItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free, stop := Release(t.Context(), time.Minute)
		if d := lasts(free); d != time.Minute {
			t.Errorf("lasts %v, want its limit", d)
		}
		stop()
		free, stop = Release(t.Context(), time.Minute)
		time.AfterFunc(time.Second, stop)
		if d := lasts(free); d != time.Second {
			t.Errorf("lasts %v, though it was stopped after a second", d)
		}
	})
}

func TestWhatIsMadeAgain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{rpctypes.ErrNoLeader, true},
		{rpctypes.ErrTimeout, true},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), true},
		{context.DeadlineExceeded, true}, // of one attempt
		{rpctypes.ErrNoSpace, false},     // for an operator to mend
		{rpctypes.ErrPermissionDenied, false},
		{rpctypes.ErrLeaseNotFound, false},
		{fmt.Errorf("wrapped: %w", rpctypes.ErrNoSpace), false},
	} {
		if got := again(c.err); got != c.want {
			t.Errorf("%v: %t, want %t", c.err, got, c.want)
		}
	}
}

func TestAnswersThatMeanSomethingAreToldApart(t *testing.T) {
	other := errors.New("other")
	if !LeaseGone(rpctypes.ErrLeaseNotFound) || LeaseGone(other) || LeaseGone(nil) {
		t.Error("LeaseGone")
	}
	if !RevisionAhead(rpctypes.ErrFutureRev) || RevisionAhead(rpctypes.ErrCompacted) || RevisionAhead(nil) {
		t.Error("RevisionAhead")
	}
}
