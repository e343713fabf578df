package retry

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// leaderlessCall makes a read that meets these members one after the other, each without a leader, and returns when the
// attempts were made, from the first one on.
func leaderlessCall(t *testing.T, p Policy, members ...string) (at []time.Duration) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	began := time.Now()
	p.ConnectTimeout, p.ReadTimeout = -1, time.Minute
	err = newDialed(p).unary(t.Context(), pb.KV_Range_FullMethodName, &pb.RangeRequest{}, nil, cc,
		func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			for _, o := range opts {
				if p, ok := o.(grpc.PeerCallOption); ok {
					*p.PeerAddr = peer.Peer{Addr: &net.UnixAddr{Name: members[len(at)]}}
				}
			}
			at = append(at, time.Since(began))
			return rpctypes.ErrGRPCNoLeader
		})
	if !isNoLeader(err) {
		t.Errorf("the call ends with %v", err)
	}
	return at
}

func TestAnElectionIsWaitedForWhenTwoMembersHaveNoLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := leaderlessCall(t, Policy{}, "a", "b", "c", "a", "b", "c")
		if len(at) != 1+defaultMaxAttempts || at[1] != 0 {
			t.Fatalf("attempts at %v: the first does not count, and the second is to be made at once", at)
		}
		for i, least := range []time.Duration{2: electionWait, 3: 2 * electionWait, 4: 4 * electionWait, 5: 8 * electionWait} {
			if i > 1 && at[i]-at[i-1] < least {
				t.Errorf("attempt %d came %v after the one before, want at least %v", i+1, at[i]-at[i-1], least)
			}
		}
	})
}

// With many callers a call may meet the same member many times: that is no election, nor worth a wait.
func TestTheOneMemberWithoutALeaderIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := leaderlessCall(t, Policy{}, slices.Repeat([]string{"a"}, wrongMember+defaultMaxAttempts)...)
		if len(at) != wrongMember+defaultMaxAttempts || at[1] != 0 {
			t.Fatalf("attempts at %v", at)
		}
		for i := 2; i < wrongMember; i++ {
			if wait := at[i] - at[i-1]; wait >= wrongMemberWait {
				t.Errorf("attempt %d came %v after the one before", i+1, wait)
			}
		}
		if wait := at[wrongMember+1] - at[wrongMember]; wait < electionWait { // it is the only one there is
			t.Errorf("after %d attempts the wait is %v", wrongMember, wait)
		}
	})
}

func TestWhoAsksForOneAttemptGetsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if at := leaderlessCall(t, Policy{MaxAttempts: 1}, "a", "b"); len(at) != 1 {
			t.Errorf("attempts at %v", at)
		}
	})
}
