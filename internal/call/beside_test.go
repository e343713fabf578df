package call

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// clientOf returns one of so many endpoints that nobody serves: it is only asked for them.
func clientOf(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

func TestTheSecondAttemptHasCompanyIfThereAreSeveralEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoints []string
		want      []int64 // calls made after each attempt
	}{
		{[]string{"127.0.0.1:1"}, []int64{1, 2, 3}},
		{[]string{"127.0.0.1:1", "127.0.0.1:2"}, []int64{1, 3, 5}},
	} {
		var calls atomic.Int64
		attempt := Beside(clientOf(t, c.endpoints...), func(context.Context) (int64, error) {
			return calls.Add(1), status.Error(codes.Unavailable, "no")
		})
		for i, want := range c.want {
			if _, err := attempt(t.Context()); err == nil {
				t.Error("no error of two that failed")
			}
			if n := calls.Load(); n != want {
				t.Errorf("%d endpoints, attempt %d: %d calls so far, want %d", len(c.endpoints), i+1, n, want)
			}
		}
	}
}

func TestOfTwoAtOnceTheFirstAnswerCounts(t *testing.T) {
	t.Parallel()
	cli := clientOf(t, "127.0.0.1:1", "127.0.0.1:2")
	refused := status.Error(codes.PermissionDenied, "no")
	for name, first := range map[string]error{"an answer": nil, "a refusal": refused} {
		synctest.Test(t, func(t *testing.T) {
			answered := make(chan struct{}, 1)
			answered <- struct{}{}
			attempt := Beside(cli, func(ctx context.Context) (string, error) {
				select {
				case <-answered:
					return name, first
				default:
				}
				<-ctx.Done() // the one that hangs, until the other has answered
				return "", ctx.Err()
			})
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			<-answered
			if _, err := attempt(ended); err == nil {
				t.Error("the first attempt has company")
			}
			answered <- struct{}{}
			got, err := attempt(t.Context())
			if got != name || err != first { //nolint:errorlint // as it is
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		})
	}
}

func TestWhereOneOfTwoFailsTheOtherIsWaitedFor(t *testing.T) {
	t.Parallel()
	attempt := Beside(clientOf(t, "127.0.0.1:1", "127.0.0.1:2"), func() func(ctx context.Context) (string, error) {
		var n atomic.Int64
		failed := make(chan struct{})
		return func(context.Context) (string, error) {
			switch n.Add(1) {
			case 1:
				return "", status.Error(codes.Unavailable, "alone")
			case 2:
				defer close(failed)
				return "", status.Error(codes.Unavailable, "first")
			}
			<-failed
			return "second", nil
		}
	}())
	_, _ = attempt(t.Context())
	if got, err := attempt(t.Context()); got != "second" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
