package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leastSamples is of how many round trips to a peer, one every half a minute, the first no longer counts: it opens a connection.
const leastSamples = 10

// checkLatency measures how long the ways are, and holds heartbeats, elections, sessions and timeouts against that.
func checkLatency(ctx context.Context, p *Patient) []Finding {
	all, _ := sites(ctx, p) // those that could not be listed are check topology's
	alive := living(all)
	if len(alive) == 0 {
		return []Finding{notSeen("round trips", errors.Join(p.Unreached, all[0].err), "Connect as a user.")}
	}
	found := measure(ctx, p, alive)
	m := measured{heartbeat: p.Heartbeat, election: p.Election}
	m.near = together(found, func(t *trips) spread { return t.serializable }).p99()
	m.read = together(found, func(t *trips) spread { return t.linearizable }).p99()
	m.dial = together(found, func(t *trips) spread { return t.dial }).p99()
	m.usualDial = together(found, func(t *trips) spread { return t.dial }).p90()
	findings := []Finding{ways(p, all, found)}
	commit, times := commits(ctx, p, found)
	m.commit = times.p99()
	m.usualCall = max(times.p90(), together(found, func(t *trips) spread { return t.linearizable }).p90())
	findings = append(findings, commit.judge(times, m.settled()))
	findings = append(findings, beating(ctx, p, all, found, &m))
	return append(findings, sessions(p, m), policies(p, m))
}

// settled are the settings with etcd's defaults for those that are not known.
func (m measured) settled() measured {
	if m.heartbeat == 0 {
		m.heartbeat = defaultHeartbeat
	}
	if m.election == 0 {
		m.election = max(defaultElection, beatsElection*m.heartbeat)
	}
	return m
}

// ways judges the round trips from here against the timeout of a first attempt.
func ways(p *Patient, all []*site, found []*trips) Finding {
	f := Finding{Verdict: OK, Subject: "round trips from here", Reason: "members answer well within the timeout of a first attempt"}
	attempt := p.Config.Retry.Effective().AttemptTimeout
	var slow string
	for _, t := range found {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: connect %v; serializable read %v; linearizable read %v", t.name, t.dial, t.serializable, t.linearizable))
		if t.err != nil {
			f.Evidence = append(f.Evidence, t.name+": "+inLine(t.err))
		}
		switch {
		case len(t.serializable) == 0:
			f.Verdict, slow = max2(f.Verdict, Warn), t.name
		case attempt > 0 && t.serializable.p50() > attempt:
			f.Verdict, slow = Fail, t.name
		case attempt > 0 && t.serializable.p50() > attempt/4:
			f.Verdict, slow = max2(f.Verdict, Warn), t.name
		}
	}
	for _, s := range all {
		if !s.alive() {
			f.Evidence = append(f.Evidence, s.name+": not measured, it does not answer")
		}
	}
	if f.Verdict != OK {
		f.Reason = fmt.Sprintf("%s takes more than a quarter of the %v that a first attempt is given, or does not answer", slow, attempt)
		f.Remedy = "Run applications nearer to the members, or give attempts more time (retry.Policy.AttemptTimeout): see below."
	}
	return f
}

// max2 is the worse of two verdicts that something was looked at for.
func max2(a, b Verdict) Verdict {
	if a == Fail || b == Fail {
		return Fail
	}
	if a == Warn || b == Warn {
		return Warn
	}
	return OK
}

// commits measures commits: those of a question that goes through the log and, if it may, of writes.
func commits(ctx context.Context, p *Patient, found []*trips) (Finding, spread) {
	f := Finding{Subject: "commits"}
	times := together(found, func(t *trips) spread { return t.commit })
	f.Evidence = append(f.Evidence, "a question that goes through the log, and writes no key: "+times.String())
	if !p.Write {
		f.Evidence = append(f.Evidence, "writes were not tried; --write does, below "+ownPrefix+", and deletes them")
		return f, times
	}
	writes, err := probeWrites(ctx, p.Privileged())
	if err != nil {
		f.Verdict, f.Reason, f.Evidence = Skipped, "probe writes could not be made", append(f.Evidence, inLine(err))
		if f.Remedy = "Examine again when the cluster takes writes: see check 4."; denied(err) {
			f.Remedy = "Grant it: etcdctl role grant-permission ROLE readwrite --prefix " + ownPrefix + "."
		}
		return f, times
	}
	f.Evidence = append(f.Evidence, "puts below "+ownPrefix+", since deleted: "+writes.String())
	return f, append(times, writes...)
}

// judge judges commits against heartbeat and election: a leader whose disk or followers take longer than that is not one for long.
func (f Finding) judge(times spread, m measured) Finding {
	switch {
	case f.Verdict == Skipped:
	case len(times) == 0:
		f.Verdict, f.Reason = Skipped, "no commit was measured"
		f.Remedy = "Examine again when the cluster has a leader."
	case times.p50() > m.election:
		f.Verdict, f.Reason = Fail, fmt.Sprintf("half of them take longer than the election timeout of %v", m.election)
	case times.p99() > m.election || times.p50() > m.heartbeat:
		f.Verdict, f.Reason = Warn, fmt.Sprintf("they take long beside the heartbeat of %v and the election timeout of %v", m.heartbeat, m.election)
	default:
		f.Verdict, f.Reason = OK, "they take less than the leader's heartbeats leave"
	}
	if f.Verdict == Warn || f.Verdict == Fail {
		f.Remedy = "Give the members disks of their own with a p99 of fsync under 10ms (etcd_disk_wal_fsync_duration_seconds), or a longer heartbeat and election timeout."
	}
	return f
}

// beating judges heartbeat and election timeout against the round trip between members, and fills that in.
func beating(ctx context.Context, p *Patient, all []*site, found []*trips, m *measured) Finding {
	given := m.heartbeat > 0 && m.election > 0
	*m = m.settled()
	f := Finding{Subject: "heartbeat and election timeout", Evidence: []string{
		fmt.Sprintf("heartbeat %v, election timeout %v", m.heartbeat, m.election),
	}}
	if !given {
		f.Evidence[0] += " (assumed: etcd's defaults where they were not given with --heartbeat-interval and --election-timeout, as members do not tell)"
	}
	if len(all) == 1 {
		f.Verdict, f.Reason = OK, "there is one member, and nobody that heartbeats have to reach"
		return f
	}
	m.between = apart(found)
	f.Evidence = append(f.Evidence, fmt.Sprintf("round trip between members, from how much longer linearizable reads take: %v", brief(m.between)))
	var told spread
	members, _ := p.Members(ctx)
	present := func(labels map[string]string) bool { // and not of one that has left
		return slices.ContainsFunc(members, func(m *pb.Member) bool { return labels["To"] == strconv.FormatUint(m.ID, 16) })
	}
	for _, s := range all {
		if g, err := scrape(ctx, p, s); err == nil {
			told = append(told, g.quantiles("etcd_network_peer_round_trip_time_seconds", 0.5, leastSamples, present)...)
		}
	}
	if len(told) > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("... as members have measured it since they started (etcd_network_peer_round_trip_time_seconds): median %v at most", brief(told.max())))
		m.between = max(m.between, told.max())
	}
	if !slices.ContainsFunc(found, func(t *trips) bool { return len(t.linearizable) > 0 }) {
		f.Verdict, f.Reason, f.Remedy = Skipped, "no linearizable read was answered", "Examine again when the cluster has a leader."
		return f
	}
	switch f.Verdict = m.pace(); f.Verdict {
	case OK, Skipped:
		f.Reason = "a heartbeat leaves time for a round trip, and an election for ten"
	case Warn, Fail:
		f.Reason = fmt.Sprintf("a round trip between members takes %v: the heartbeat should be about that, and the election timeout ten times that", brief(m.between))
		if m.election < beatsElection*m.heartbeat {
			f.Reason = "the election timeout is under five heartbeats: etcd does not start so"
		}
		h, e := m.beats()
		f.Remedy = fmt.Sprintf("Start all members with --heartbeat-interval=%d --election-timeout=%d, or move them nearer to each other.", h.Milliseconds(), e.Milliseconds())
	}
	return f
}

// sessions judges the TTL of the application's sessions, and says which to take.
func sessions(p *Patient, m measured) Finding {
	ttl, from := p.SessionTTL, "given"
	if ttl == 0 {
		ttl, from = defaultTTL, "assumed: the SDK's default; --session-ttl says another"
	}
	f := Finding{Subject: "TTL of sessions", Evidence: []string{
		fmt.Sprintf("TTL %v (%s)", ttl, from),
		fmt.Sprintf("a TTL of %v lives through the election of a leader, one of %v also if its votes are split", m.least(), m.advised()),
	}}
	advice := fmt.Sprintf("advised for what was measured: TTL %v, margin %v", m.advised(), brief(m.margin(m.advised())))
	f.Verdict, f.Reason = OK, "trust outlives the election of a leader; "+advice
	switch {
	case ttl < m.renewable():
		f.Verdict, f.Reason = Fail, "trust ends with the first renewal that is lost, or etcd does not grant that; "+advice
	case ttl < m.least():
		f.Verdict, f.Reason = Warn, "whatever sessions own is lost whenever a leader is elected; "+advice
	}
	if f.Verdict != OK {
		f.Remedy = fmt.Sprintf("Take session.Options{TTL: %d * time.Second, Margin: %d * time.Millisecond}.", m.advised()/time.Second, m.margin(m.advised()).Milliseconds())
	}
	return f
}

// policies says which timeouts suit what was measured, and whether those given are shorter.
func policies(p *Patient, m measured) Finding {
	have, want := p.Config.Retry.Effective(), m.policy()
	f := Finding{Verdict: OK, Subject: "timeouts for these round trips", Reason: "those given are long enough for what was measured"}
	var advice []string
	for _, t := range []struct {
		name       string
		have, want time.Duration
	}{
		{"ConnectTimeout", have.ConnectTimeout, want.ConnectTimeout},
		{"AttemptTimeout", have.AttemptTimeout, want.AttemptTimeout},
		{"ReadTimeout", have.ReadTimeout, want.ReadTimeout},
		{"MaxElapsed", have.MaxElapsed, want.MaxElapsed},
	} {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s %v, advised %v", t.name, orNone(t.have), brief(t.want)))
		advice = append(advice, fmt.Sprintf("%s %v", t.name, brief(t.want)))
	}
	if short := m.short(have); len(short) > 0 {
		f.Verdict, f.Reason = Warn, strings.Join(short, ", ")+": shorter than what is usual, or than the election of a leader takes"
		f.Remedy = "Set the advised values in pool.Config.Retry (ConnectTimeout: --dial-timeout)."
	}
	f.Reason += "; advised: " + strings.Join(advice, ", ")
	return f
}

// orNone is a bound as people say it.
func orNone(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}
