package retry

import (
	"errors"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	// electionWait is the least wait once an election is likely; it doubles. With the default of five attempts that spans
	// 1.75 s, and so most elections of a cluster with etcd's own timing.
	electionWait = 250 * time.Millisecond

	// wrongMember is how often a call may meet the one member without a leader before that counts as an attempt, and
	// wrongMemberWait the most that it waits before it tries the next. Callers share gRPC's turns: each may meet it many times.
	wrongMember     = 16
	wrongMemberWait = 20 * time.Millisecond
)

// leaderless is what a call of a client has heard of members without a leader. One of them may be cut off from the others,
// says so at once, and has asked nobody: that was no attempt at the cluster, and the next one meets another member. When two say
// so an election is likely, and attempts that come before it has ended are wasted.
type leaderless struct {
	member   string // the first that said so
	alone    int    // how often it did while no other had
	election int    // how often one was likely
}

// said notes that a member has no leader.
func (l *leaderless) said(member string) {
	switch {
	case l.member == "":
		l.member, l.alone = member, 1
	case l.election == 0 && l.member == member && l.alone < wrongMember:
		l.alone++
	default:
		l.election++
	}
}

// spares reports whether the last attempt does not count.
func (l *leaderless) spares() bool { return l.election == 0 && l.member != "" }

// wait is the least wait before the next attempt.
func (l *leaderless) wait() time.Duration {
	switch {
	case l.election > 0:
		return electionWait << min(l.election-1, 4)
	case l.alone > 1:
		return rand.N(wrongMemberWait)
	}
	return 0
}

func isNoLeader(err error) bool { return errors.Is(EtcdError(err), rpctypes.ErrNoLeader) }
