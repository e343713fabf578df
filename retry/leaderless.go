package retry

import (
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// electionWait is the least wait once two members have said that they have no leader; it doubles. With the default of five
// attempts that spans 1.75 s, and so most elections of a cluster with etcd's own timing.
const electionWait = 250 * time.Millisecond

// leaderless is what a call has heard of members without a leader. One of them may be cut off from the others, and the next
// attempt meets another; of two, an election is likely, and attempts that come before it has ended are wasted.
type leaderless struct {
	member string // the first that said so
	times  int    // that it was said
	since  int    // that it was said since two members did
}

// said notes that a member has no leader.
func (l *leaderless) said(member string) {
	l.times++
	if l.times == 1 {
		l.member = member
	}
	if l.since > 0 || member != l.member {
		l.since++
	}
}

// wait is how long to wait before the next attempt, where the backoff has drawn a time.
func (l *leaderless) wait(drawn time.Duration) time.Duration {
	switch {
	case l.since > 0:
		return max(drawn, electionWait<<min(l.since-1, 4))
	case l.times <= 1:
		return 0
	}
	return drawn
}

func isNoLeader(err error) bool { return errors.Is(EtcdError(err), rpctypes.ErrNoLeader) }
