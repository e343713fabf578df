package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	// observe is how long the leader is watched for a change.
	observe = 2 * time.Second

	// manyChanges is how many changes of leader an hour are too many.
	manyChanges = 3

	// behind is by how many entries a member may be: the statuses are not of the very same moment. At farBehind etcd itself refuses
	// writes, where it is the leader that has not applied them.
	behind, farBehind = 1000, 5000
)

// checkHealth looks at whether members are up, and agree.
func checkHealth(ctx context.Context, p *Patient) []Finding {
	first, err := p.peers(ctx)
	var findings []Finding
	if err != nil {
		findings = append(findings, Finding{
			Verdict: Skipped, Subject: "members", Reason: "they could not be listed, so only those that were given are examined", Evidence: []string{inLine(err)},
			Remedy: "See what is said of them, and in check 1; or connect as a user.",
		})
	}
	findings = append(findings, judgeMembers(first)...)
	findings = append(findings, judgeQuorum(first, err == nil), judgeLeader(first))
	if slices.ContainsFunc(first, func(one *peer) bool { return one.status != nil }) {
		findings = append(findings, p.watchLeader(ctx, first), judgeLag(first))
	}
	return append(findings, p.judgeAlarms(ctx, first)...)
}

// judgeMembers says who answers.
func judgeMembers(all []*peer) []Finding {
	var findings []Finding
	var up []string
	for _, one := range all {
		switch {
		case one.status != nil:
			up = append(up, one.title())
		case !one.up() && len(one.ClientURLs) == 0:
			findings = append(findings, Finding{
				Verdict: Fail, Subject: fmt.Sprintf("member %x", one.ID), Reason: "it was added and has never started", Evidence: slices.Clone(one.PeerURLs),
				Remedy: fmt.Sprintf("Start it, or remove it: etcdctl member remove %x.", one.ID),
			})
		case distrusted(one.err):
			findings = append(findings, Finding{
				Verdict: Skipped, Subject: one.title(), Reason: "it cannot be asked, for TLS fails", Evidence: []string{inLine(one.err)}, Remedy: "See check 1.",
			})
		case one.up():
			f := Finding{Verdict: Skipped, Subject: one.title(), Reason: "it answers, and gives no status to this user", Evidence: []string{inLine(one.err)}, Remedy: "Connect as a user."}
			if one.health != "" {
				f.Evidence = append(f.Evidence, "/health says "+one.health)
			}
			if strings.HasPrefix(one.health, "unhealthy") {
				f.Verdict, f.Reason, f.Remedy = Fail, "it is "+one.health, "See the member's log."
			}
			findings = append(findings, f)
		default:
			f := Finding{Verdict: Fail, Subject: one.title(), Reason: "it does not answer", Evidence: []string{inLine(one.err)}, Remedy: "See its log, and start it."}
			if one.ID != 0 {
				f.Remedy += fmt.Sprintf(" If its disk is lost: etcdctl member remove %x, and add a new one.", one.ID)
			}
			findings = append(findings, f)
		}
	}
	if len(up) == len(all) {
		findings = append(findings, Finding{Verdict: OK, Subject: "members", Reason: "all " + fmt.Sprint(len(up)) + " answer", Evidence: []string{strings.Join(up, ", ")}})
	}
	return findings
}

// judgeQuorum says how many may still fail. listed is unset if these may not be all members.
func judgeQuorum(all []*peer, listed bool) Finding {
	f := Finding{Verdict: OK, Subject: "quorum"}
	voters, up := 0, 0
	for _, one := range all {
		if !one.IsLearner {
			voters++
			if one.up() {
				up++
			}
		}
	}
	if !listed {
		f.Verdict, f.Reason, f.Remedy = Skipped, "how many members there are is not known", "See above."
		return f
	}
	need := voters/2 + 1
	margin := up - need
	f.Evidence = []string{fmt.Sprintf("%d of %s up, and %d needed", up, cli.Plural(voters, "voter", "voters"), need)}
	switch {
	case margin < 0:
		f.Verdict, f.Reason = Fail, "it is lost: nothing is written, and read only by who does not mind old values"
		f.Remedy = "Start members until there is a majority. If their disks are lost: etcdutl snapshot restore, into a new cluster."
	case margin == 0 && voters > 1:
		f.Verdict, f.Reason, f.Remedy = Fail, "not one more member may fail", "Bring the others back before you do anything else."
		if up == voters {
			f.Verdict, f.Remedy = Warn, "See check 3: the number of voters."
		}
	case voters == 1:
		f.Reason = "the only voter is up; none may fail"
	default:
		f.Reason = fmt.Sprintf("%s fail, and the cluster goes on", map[bool]string{true: "one member may", false: fmt.Sprintf("%d members may", margin)}[margin == 1])
	}
	return f
}

// judgeLeader says whether all know the same one.
func judgeLeader(all []*peer) Finding {
	f := Finding{Verdict: OK, Subject: "leader"}
	leaders := map[uint64][]string{}
	names := map[uint64]string{}
	for _, one := range all {
		names[one.ID] = one.title()
		if one.status != nil {
			leaders[one.status.Leader] = append(leaders[one.status.Leader], one.title())
		}
	}
	for id, who := range leaders {
		if name := names[id]; id != 0 && name != "" {
			f.Evidence = append(f.Evidence, name+" leads, say "+strings.Join(who, ", "))
		} else if id != 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%x leads, say %s", id, strings.Join(who, ", ")))
		} else {
			f.Evidence = append(f.Evidence, "nobody leads, say "+strings.Join(who, ", "))
		}
	}
	slices.Sort(f.Evidence)
	switch {
	case len(leaders) == 0:
		f.Verdict, f.Reason, f.Remedy = Skipped, "no member tells who it is", "See above."
	case len(leaders[0]) > 0:
		f.Verdict, f.Reason = Fail, "members know none: they cannot reach a majority"
		f.Remedy = "Look at the network between the members (their peer URLs), and at their peer certificates."
	case len(leaders) > 1:
		f.Verdict, f.Reason = Fail, "members do not agree on it"
		f.Remedy = "Examine again; if it stays so, look at the network between the members, and whether they are of one cluster."
	default:
		f.Reason = "all know the same one"
	}
	return f
}

// watchLeader says whether it stays.
func (p *Patient) watchLeader(ctx context.Context, before []*peer) Finding {
	f := Finding{Verdict: OK, Subject: "leader's stability"}
	select {
	case <-time.After(observe):
	case <-ctx.Done():
		f.Verdict, f.Reason, f.Remedy = Skipped, "there was no time to watch it", "Examine with --only health."
		return f
	}
	after, _ := p.peers(ctx) // the same ones, or those given
	changed := map[uint64]uint64{}
	for _, one := range before {
		changed[one.ID] = one.status.GetRaftTerm()
	}
	var first, last uint64
	for _, one := range after {
		if was := changed[one.ID]; one.status != nil && was != 0 {
			first, last = max(first, was), max(last, one.status.RaftTerm)
		}
	}
	f.Evidence = []string{fmt.Sprintf("term %d, and %d after %v", first, last, observe)}
	changes, since := p.leaderChanges(ctx, after)
	if since > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("changes of leader: %d since a member started, %s", changes, cli.Ago(time.Now().Add(-since))))
	}
	switch {
	case slices.ContainsFunc(after, func(one *peer) bool { return one.status != nil && one.status.Leader == 0 }):
		f.Verdict, f.Reason, f.Remedy = Skipped, "there is none to watch", "See above."
	case last != first:
		f.Verdict, f.Reason = Warn, fmt.Sprintf("the term went from %d to %d while it was watched", first, last)
		f.Remedy = "Find out why: slow disks and networks, and processors that are wanted by others (see check 6)."
	case float64(changes) > manyChanges*max(1, since.Hours()):
		f.Verdict, f.Reason = Warn, fmt.Sprintf("it changes more than %d times an hour", manyChanges)
		f.Remedy = "Find out why: slow disks and networks, and processors that are wanted by others (see check 6)."
	case since == 0:
		f.Reason = fmt.Sprintf("no election within %v; what was before is not known, for the members' metrics cannot be read", observe)
	default:
		f.Reason = fmt.Sprintf("no election within %v, and few before", observe)
	}
	return f
}

// judgeLag says whether members keep up.
func judgeLag(all []*peer) Finding {
	f := Finding{Verdict: OK, Subject: "lag"}
	var head, most uint64
	for _, one := range all {
		head = max(head, one.status.GetRaftIndex())
	}
	for _, one := range all {
		if one.status == nil {
			continue
		}
		lag := head - min(head, one.status.RaftAppliedIndex)
		if !one.IsLearner { // those are check 3's
			most = max(most, lag)
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s has applied %d of %d entries", one.title(), one.status.RaftAppliedIndex, head))
	}
	switch {
	case most >= farBehind:
		f.Verdict, f.Reason = Fail, fmt.Sprintf("a member is %d entries behind", most)
	case most >= behind:
		f.Verdict, f.Reason = Warn, fmt.Sprintf("a member is %d entries behind", most)
	default:
		f.Reason = fmt.Sprintf("those that answer are within %d entries of each other", behind)
		return f
	}
	f.Remedy = "Look at that member's disk and processor; as long as it is behind it is no replacement for the leader."
	return f
}

// alarmHelp is what to do about an alarm.
var alarmHelp = map[pb.AlarmType]struct{ reason, remedy string }{
	pb.AlarmType_NOSPACE: {
		"the database has reached its quota, and the cluster takes no more writes",
		"Make room, and then take the alarm back: etcdctl compaction REVISION; etcdctl --endpoints=MEMBER defrag, one at a time; etcdctl alarm disarm. Delete what nobody needs, or raise --quota-backend-bytes.",
	},
	pb.AlarmType_CORRUPT: {
		"members' data differ, and the cluster takes no more requests",
		"Stop the member whose hash differs (etcdctl endpoint hashkv --cluster), remove it, and add it again with an empty disk; then etcdctl alarm disarm.",
	},
}

// judgeAlarms says which are raised. Without a quorum they are those that members tell with their status.
func (p *Patient) judgeAlarms(ctx context.Context, all []*peer) []Finding {
	raised := map[pb.AlarmType][]string{}
	title := func(id uint64) string {
		for _, one := range all {
			if one.ID == id {
				return one.title()
			}
		}
		return fmt.Sprintf("member %x", id)
	}
	looked := false
	if p.Client != nil {
		asking, cancel := context.WithTimeout(ctx, askWithin)
		resp, err := p.Client.AlarmList(asking)
		cancel()
		if looked = err == nil; looked {
			for _, a := range resp.Alarms {
				raised[a.Alarm] = append(raised[a.Alarm], title(a.MemberID))
			}
		}
	}
	for _, one := range all {
		if looked || one.status == nil {
			continue
		}
		for _, text := range one.status.Errors { // "memberID:... alarm:NOSPACE"
			for kind := range alarmHelp {
				if strings.Contains(text, kind.String()) {
					raised[kind] = append(raised[kind], one.title())
				}
			}
		}
	}
	known := looked || slices.ContainsFunc(all, func(one *peer) bool { return one.status != nil })
	var findings []Finding
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		if who := raised[kind]; len(who) > 0 {
			help := alarmHelp[kind]
			findings = append(findings, Finding{
				Verdict: Fail, Subject: "alarm " + kind.String(), Reason: help.reason, Evidence: []string{"raised by " + strings.Join(who, ", ")}, Remedy: help.remedy,
			})
		}
	}
	switch {
	case len(findings) > 0:
		return findings
	case !known:
		return []Finding{{Verdict: Skipped, Subject: "alarms", Reason: "no member tells", Remedy: "See above."}}
	}
	if !looked {
		return []Finding{{Verdict: OK, Subject: "alarms", Reason: "the members that answer know of none"}}
	}
	return []Finding{{Verdict: OK, Subject: "alarms", Reason: "none is raised"}}
}
