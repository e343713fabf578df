package retry

import (
	"context"
	"net"
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
func leaderlessCall(t *testing.T, members ...string) (at []time.Duration) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	began := time.Now()
	err = newDialed(Policy{ConnectTimeout: -1}).unary(t.Context(), pb.KV_Range_FullMethodName, &pb.RangeRequest{}, nil, cc,
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
		at := leaderlessCall(t, "a", "b", "c", "a", "b")
		if len(at) != 5 || at[1] != 0 {
			t.Fatalf("attempts at %v: the second is to be made at once", at)
		}
		for i, least := range []time.Duration{2: electionWait, 3: 2 * electionWait, 4: 4 * electionWait} {
			if i > 0 && at[i]-at[i-1] < least {
				t.Errorf("attempt %d came %v after the one before, want at least %v", i+1, at[i]-at[i-1], least)
			}
		}
	})
}

func TestOneMemberWithoutALeaderIsNoElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			at := leaderlessCall(t, "a", "a", "a", "a", "a")
			if len(at) != 5 || at[1] != 0 {
				t.Fatalf("attempts at %v: the second is to be made at once", at)
			}
			// Full jitter: the second wait is less than what an election is given in about all cases, at some time.
			if at[2]-at[1] < electionWait/4 {
				return
			}
		}
		t.Error("the third attempt always waited as for an election")
	})
}
