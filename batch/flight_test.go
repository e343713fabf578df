package batch

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
)

// gaveUp is the error of a call that was tried twice, and failed with each of errs once.
func gaveUp(errs ...error) error {
	n := 0
	return retry.Do(context.Background(), retry.Policy{MaxAttempts: len(errs), Initial: -1, Retryable: retry.Idempotent}, func(context.Context) error {
		n++
		return errs[n-1]
	})
}

func TestTheFateOfATransactionIsWhatItsErrorSaysForCertain(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		err  error
		want error
	}{
		{nil, nil},
		{rpctypes.ErrPermissionDenied, ErrNotApplied},
		{rpctypes.ErrLeaseNotFound, ErrNotApplied},
		{rpctypes.ErrNoLeader, ErrNotApplied}, // after the last attempt
		{clientv3.ErrNoAvailableEndpoints, ErrNotApplied},
		{fmt.Errorf("wrapped: %w", fence.ErrLost), ErrNotApplied},
		{retry.Permanent(errors.New("a wrapper's own, and certain")), ErrNotApplied},
		{retry.Do(ended, retry.Policy{}, nil), ErrNotApplied}, // never sent
		{rpctypes.ErrNoSpace, ErrUnknown},
		{rpctypes.ErrTimeout, ErrUnknown},
		{context.DeadlineExceeded, ErrUnknown},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), ErrUnknown},
		{errors.New("a wrapper's own"), ErrUnknown},
		{gaveUp(rpctypes.ErrNoLeader, rpctypes.ErrPermissionDenied), ErrNotApplied},
		// The first attempt may have been applied, whatever the second met.
		{gaveUp(rpctypes.ErrTimeout, rpctypes.ErrPermissionDenied), ErrUnknown},
		{gaveUp(rpctypes.ErrTimeout, fence.ErrLost), ErrUnknown},
	} {
		f := fateOf(7, c.err)
		if !errors.Is(f.verdict, c.want) || (f.verdict == nil) != (c.want == nil) || !errors.Is(f.reason, c.err) && c.err != nil || (f.revision == 7) != (c.err == nil) {
			t.Errorf("%v: %v at revision %d because of %v, want %v", c.err, f.verdict, f.revision, f.reason, c.want)
		}
	}
}

func TestOnlyWhatCertainlyWasNotAppliedIsSentInParts(t *testing.T) {
	puts := []*write{{key: "a"}, {key: "b"}, {key: "c"}}
	mixed := []*write{{key: "a"}, {key: "b", deletes: true}, {key: "c"}}
	for _, c := range []struct {
		cargo []*write
		err   error
		want  string
	}{
		{puts, nil, ""},
		{puts, rpctypes.ErrPermissionDenied, "a= | b= c="},
		{puts, rpctypes.ErrRequestTooLarge, "a= | b= c="},
		{puts, rpctypes.ErrTooManyOps, "a= | b= c="},
		{puts, status.Error(codes.ResourceExhausted, "trying to send message larger than max (3 vs. 2)"), "a= | b= c="},
		{puts, status.Error(codes.PermissionDenied, "a proxy's"), "a= | b= c="},
		{puts[:1], rpctypes.ErrPermissionDenied, ""},
		{puts, rpctypes.ErrLeaseNotFound, ""},
		{mixed, rpctypes.ErrLeaseNotFound, "a= c= | b="},
		{mixed[1:2], rpctypes.ErrLeaseNotFound, ""},
		// For all of them alike.
		{puts, rpctypes.ErrClusterIDMismatch, ""},
		{puts, fence.ErrLost, ""},
		{puts, rpctypes.ErrTooManyRequests, ""}, // ResourceExhausted too, and was tried again before
		// Perhaps applied.
		{puts, rpctypes.ErrNoSpace, ""}, // as above
		{puts, rpctypes.ErrTimeout, ""},
		{puts, gaveUp(rpctypes.ErrTimeout, rpctypes.ErrPermissionDenied), ""},
	} {
		got := ""
		for i, part := range divide(c.cargo, c.err) {
			if i > 0 {
				got += " | "
			}
			got += content(part)
		}
		if got != c.want {
			t.Errorf("%s, refused with %v: %q, want %q", content(c.cargo), c.err, got, c.want)
		}
	}
}
