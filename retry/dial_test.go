package retry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func TestDialOptionsRefuseABadPolicy(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a multiplier of a half was taken")
		}
	}()
	DialOptions(Policy{Multiplier: 0.5})
}

// What the interceptors add to a call, beside what a call with a timeout costs anyway.
func BenchmarkInterceptor(b *testing.B) {
	cc, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Close()
	stub := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	p := Policy{ConnectTimeout: -1, Budget: &Budget{}, Breaker: &Breaker{}} // the stub never connects
	d := newDialed(p)
	for name, req := range map[string]any{"read": &pb.RangeRequest{}, "write": &pb.PutRequest{}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := d.unary(b.Context(), "/etcdserverpb.KV/Call", req, nil, cc, stub); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A bare timeout, to compare with.
func BenchmarkTimeout(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, cancel := context.WithTimeout(b.Context(), defaultAttemptTimeout)
		cancel()
	}
}

// What the client is shown is one thing, what a caller learns another.
func TestTheErrorsOfACallAreClassifiedByWhatHappened(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want outcome
		code codes.Code
	}{
		"no connection":           {settle(&connectError{within: time.Second}), isTransient, codes.Aborted},
		"no connection, a stream": {&connectError{within: time.Second}, isTransient, codes.Unavailable},
		"open breaker":            {settle(&openError{"open"}), isTransient, codes.Aborted},
		"refused at last":         {settle(&gaveUpError{attempts: 5, last: rpctypes.ErrGRPCNoLeader}), isTransient, codes.Aborted},
		"not answered":            {settle(&gaveUpError{attempts: 1, last: rpctypes.ErrGRPCTimeout}), isAmbiguous, codes.Aborted},
		"not answered once":       {settle(&gaveUpError{attempts: 2, last: rpctypes.ErrGRPCNoLeader, doubt: rpctypes.ErrGRPCTimeout}), isAmbiguous, codes.Aborted},
		"too late":                {settle(&gaveUpError{attempts: 2, last: rpctypes.ErrGRPCNoLeader, late: true}), isTransient, codes.Aborted},
		"etcd's own answer":       {settle(rpctypes.ErrGRPCCompacted), isFinal, codes.OutOfRange},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%s: %v is %+v, want %+v", name, c.err, got, c.want)
		}
		if got := outcomeOf(fmt.Errorf("put: %w", c.err)); got != c.want {
			t.Errorf("%s, wrapped: %+v, want %+v", name, got, c.want)
		}
		if got := status.Code(c.err); got != c.code {
			t.Errorf("%s has code %v, want %v", name, got, c.code)
		}
	}
	if err := settle(&gaveUpError{attempts: 5, last: rpctypes.ErrGRPCNoLeader}); !errors.Is(err, rpctypes.ErrNoLeader) || !errors.Is(EtcdError(err), rpctypes.ErrNoLeader) {
		t.Errorf("%v does not match etcd's error", err)
	}
	if err := settle(&gaveUpError{attempts: 2, last: rpctypes.ErrGRPCNoLeader, late: true}); !errors.Is(err, ErrReadTimeout) {
		t.Errorf("%v does not match ErrReadTimeout", err)
	}
}
