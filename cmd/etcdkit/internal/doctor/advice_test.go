package doctor

import (
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/retry"
)

const ms = time.Millisecond

func TestHeartbeatsAreJudgedAgainstTheRoundTripBetweenMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                         string
		heartbeat, election, between time.Duration
		want                         Verdict
	}{
		{"etcd's defaults in one room", 100 * ms, time.Second, ms / 2, OK},
		{"... at their limit", 100 * ms, time.Second, 100 * ms, OK},
		{"... across an ocean", 100 * ms, time.Second, 150 * ms, Fail},
		{"an election too short alone", 150 * ms, time.Second, 101 * ms, Fail},
		{"a heartbeat a little short alone", 100 * ms, 2 * time.Second, 150 * ms, Warn},
		{"a heartbeat too short alone", 100 * ms, 3 * time.Second, 250 * ms, Fail},
		{"what etcd would not start with", 500 * ms, time.Second, ms, Fail},
	} {
		if got := (measured{heartbeat: c.heartbeat, election: c.election, between: c.between}).pace(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTheAdviceIsGoodByItsOwnRules(t *testing.T) {
	t.Parallel()
	for between := ms; between < 3*time.Second; between = between*3/2 + ms {
		m := measured{between: between}
		if m.heartbeat, m.election = m.beats(); m.pace() != OK {
			t.Errorf("%v between members: advised %v and %v, which is %s", between, m.heartbeat, m.election, m.pace())
		}
	}
}

func TestTheAdvisedTTLLivesThroughAnElection(t *testing.T) {
	t.Parallel()
	for _, m := range []measured{
		{election: time.Second},
		{election: time.Second, near: 200 * ms, commit: 300 * ms},
		{election: 5 * time.Second, near: 400 * ms, commit: time.Second},
		{election: 100 * ms},
	} {
		for away, ttl := range map[time.Duration]time.Duration{0: m.renewable(), 2 * m.election: m.least(), 4 * m.election: m.advised()} {
			left := ttl - ttl/10 - ttl/3 // of trust when a renewal is due and the cluster is gone
			if need := away + resend + 2*m.near + m.commit; left < need-time.Microsecond {
				t.Errorf("%+v: of a TTL of %v %v is left, and the cluster is back and answers after %v", m, ttl, left, need)
			}
			if ttl < leastTTL || ttl < m.election*3/2 || ttl%time.Second != 0 {
				t.Errorf("%+v: no session can have a TTL of %v", m, ttl)
			}
		}
	}
	m := measured{heartbeat: defaultHeartbeat, election: defaultElection, near: ms, commit: 2 * ms}
	if got := m.least(); got != 5*time.Second { // as docs/guarantees.md says
		t.Errorf("at etcd's defaults one election wants a TTL of %v, want 5s", got)
	}
	if got := m.advised(); got > defaultTTL {
		t.Errorf("at etcd's defaults %v is advised, more than the SDK's default", got)
	}
}

func TestTheMarginIsOneThatASessionTakes(t *testing.T) {
	t.Parallel()
	for _, m := range []measured{{}, {near: 100 * ms, commit: 50 * ms}, {near: 5 * time.Second, commit: time.Second}} {
		for _, ttl := range []time.Duration{leastTTL, defaultTTL, time.Minute} {
			got := m.margin(ttl)
			if got < ttl/10 || got >= ttl/2 {
				t.Errorf("%+v: margin %v of a TTL of %v", m, got, ttl)
			}
		}
	}
	if got := (measured{near: 900 * ms, commit: 600 * ms}).margin(defaultTTL); got != 1500*ms {
		t.Errorf("margin %v, want a way and a commit", got)
	}
}

func TestTimeoutsGrowWithTheWay(t *testing.T) {
	t.Parallel()
	near, far := measured{election: time.Second, read: ms, dial: ms}.policy(), measured{election: 5 * time.Second, read: 300 * ms, commit: 400 * ms, dial: 600 * ms}.policy()
	if near.ConnectTimeout != time.Second || near.AttemptTimeout != 500*ms || near.ReadTimeout != 3*time.Second || near.MaxElapsed != 10*time.Second {
		t.Errorf("nearby the SDK's own defaults are advised, not %v", near)
	}
	if far.ConnectTimeout != 2400*ms || far.AttemptTimeout != 1600*ms || far.ReadTimeout != 13200*ms || far.MaxElapsed != 35600*ms {
		t.Errorf("far away: connect %v, attempt %v, read %v, in all %v", far.ConnectTimeout, far.AttemptTimeout, far.ReadTimeout, far.MaxElapsed)
	}
	for _, p := range []interface{ Validate() error }{near, far} {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestTimeoutsThatAreTooShortAreNamed(t *testing.T) {
	t.Parallel()
	m := measured{election: time.Second, usualDial: 50 * ms, usualCall: 400 * ms}
	if short := m.short(retry.Policy{}.Effective()); len(short) > 0 {
		t.Errorf("the SDK's defaults are called short: %v", short)
	}
	given := retry.Policy{ConnectTimeout: 20 * ms, AttemptTimeout: 100 * ms, ReadTimeout: time.Second, MaxElapsed: 1500 * ms}
	if short := m.short(given.Effective()); len(short) != 4 {
		t.Errorf("only %v are called short", short)
	}
	if short := m.short(retry.Policy{ConnectTimeout: -1, AttemptTimeout: -1, ReadTimeout: -1, MaxElapsed: -1}.Effective()); len(short) > 0 {
		t.Errorf("what has no bound is called short: %v", short)
	}
}
