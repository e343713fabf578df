package doctor

import (
	"time"

	"github.com/etcdkit/etcdkit/retry"
)

// etcd's own settings where none were given, and the SDK's.
const (
	defaultHeartbeat = 100 * time.Millisecond
	defaultElection  = time.Second
	defaultTTL       = 10 * time.Second
	leastTTL         = 2 * time.Second

	// resend is how long a session waits for the answer to a renewal before it sends another beside it.
	resend = 500 * time.Millisecond
)

// measured is what the formulas below are about.
type measured struct {
	heartbeat, election time.Duration // the members' settings

	between time.Duration // the largest round trip between two members, as a median
	near    time.Duration // p99 of a round trip from here to a member
	read    time.Duration // p99 of a linearizable read
	commit  time.Duration // p99 of a commit
	dial    time.Duration // p99 of connecting, TLS included

	usualDial, usualCall time.Duration // p90 of connecting, and of a read or a commit
}

// Rules of etcd's tuning guide: a heartbeat takes about as long as the round trip between members, 0.5 to 1.5 times, and an election ten
// round trips at least. A heartbeat longer than that costs nothing but a later election.
const (
	leastHeartbeat = 0.5
	tripsElection  = 10
	beatsElection  = 5 // etcd does not start with fewer
)

// pace judges heartbeat and election timeout against the round trip.
func (m measured) pace() Verdict {
	switch {
	case m.election < tripsElection*m.between, float64(m.heartbeat) < leastHeartbeat*float64(m.between), m.election < beatsElection*m.heartbeat:
		return Fail
	case m.heartbeat < m.between:
		return Warn
	}
	return OK
}

// beats are a heartbeat and an election timeout that suit the round trip: not less than etcd's own defaults, which suit any that is
// short.
func (m measured) beats() (heartbeat, election time.Duration) {
	heartbeat = max(defaultHeartbeat, upTo(m.between*5/4, 10*time.Millisecond))
	return heartbeat, max(defaultElection, tripsElection*heartbeat)
}

// election of a leader takes one to two timeouts, and that again if the votes are split.
const (
	electionTakes = 2
	splitTakes    = 4
)

// A session's trust lasts TTL - margin after the last acknowledged renewal was sent, and renewals go out every third of the TTL. So of
// the TTL, 1 - 1/10 - 1/3 is left when the cluster stops answering just before a renewal is due; in that time it must be back, and answer
// a renewal that was sent again. ttl is the least whole number of seconds for which that holds while the cluster is away for so long.
func (m measured) ttl(away time.Duration) time.Duration {
	need := away + resend + 2*m.near + m.commit
	return max(leastTTL, m.grantable(), upTo(need*30/17, time.Second)) // 17/30 of the TTL are left
}

// least is the TTL that lives through one election, and advised the one that lives through an election with split votes.
func (m measured) least() time.Duration   { return m.ttl(electionTakes * m.election) }
func (m measured) advised() time.Duration { return m.ttl(splitTakes * m.election) }

// renewable is the TTL that lives through the loss of one renewal, and nothing more.
func (m measured) renewable() time.Duration { return m.ttl(0) }

// grantable is the least that etcd grants: an election and a half.
func (m measured) grantable() time.Duration { return upTo(m.election*3/2, time.Second) }

// margin is for the time that it takes to act on the end of trust: what is under way then is done a commit and a way later.
func (m measured) margin(ttl time.Duration) time.Duration {
	return min(max(ttl/10, upTo(m.near+m.commit, 10*time.Millisecond)), ttl/2-time.Millisecond)
}

// policy is the SDK's, with more time where the way is long: a connection takes four times what it took, the first attempt four times
// a read, and a call lives through an election and the attempt after it.
func (m measured) policy() retry.Policy {
	p := retry.Policy{}.Effective()
	p.ConnectTimeout = max(p.ConnectTimeout, upTo(4*m.dial, 100*time.Millisecond))
	p.AttemptTimeout = max(p.AttemptTimeout, upTo(4*max(m.read, m.commit), 100*time.Millisecond))
	p.ReadTimeout = max(p.ReadTimeout, electionTakes*m.election+2*p.AttemptTimeout)
	p.MaxElapsed = max(p.MaxElapsed, p.ConnectTimeout+splitTakes*m.election+p.ReadTimeout)
	return p
}

// short are the fields of a policy that are shorter than what is usual, or than the election of a leader: calls then fail that would have
// been answered. That some are slower than usual is what repeats are for.
func (m measured) short(p retry.Policy) (fields []string) {
	under := func(name string, have, need time.Duration) {
		if have > 0 && have < need {
			fields = append(fields, name)
		}
	}
	under("ConnectTimeout", p.ConnectTimeout, m.usualDial)
	under("AttemptTimeout", p.AttemptTimeout, m.usualCall)
	under("ReadTimeout", p.ReadTimeout, max(electionTakes*m.election, m.usualCall))
	under("MaxElapsed", p.MaxElapsed, electionTakes*m.election)
	return fields
}

// upTo is d, rounded up to a unit.
func upTo(d, unit time.Duration) time.Duration {
	if whole := d.Truncate(unit); whole < d {
		return whole + unit
	}
	return d
}
