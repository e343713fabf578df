package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	// mostVoters is etcd's own advice: more make writes slower, and no cluster needs to survive four failures.
	mostVoters = 7

	// learned is the share of the leader's log that a learner must have before etcd promotes it.
	learned = 0.9
)

// checkTopology looks at who the members are.
func checkTopology(ctx context.Context, p *Patient) []Finding {
	all, err := p.peers(ctx)
	if err != nil {
		return []Finding{{
			Verdict: Skipped, Subject: "members", Reason: "they could not be listed", Evidence: []string{inLine(err)}, Remedy: "Connect as a user: with authentication on, nobody else may list them.",
		}}
	}
	var members []*pb.Member
	for _, one := range all {
		members = append(members, one.Member)
	}
	findings := []Finding{judgeVoters(members)}
	findings = append(findings, judgeNames(members)...)
	findings = append(findings, judgeAddresses(p.Endpoints, members)...)
	findings = append(findings, judgeVersions(all)...)
	return append(findings, judgeLearners(all)...)
}

// judgeVoters says whether their number is a good one.
func judgeVoters(members []*pb.Member) Finding {
	n := 0
	for _, m := range members {
		if !m.IsLearner {
			n++
		}
	}
	survives := (n - 1) / 2
	f := Finding{Verdict: OK, Subject: "voters", Evidence: []string{fmt.Sprintf("%s, %s", cli.Plural(n, "voter", "voters"), cli.Plural(len(members)-n, "learner", "learners"))}}
	switch {
	case n == 1:
		f.Verdict, f.Reason = Warn, "there is only one: if it fails, the cluster is gone until it is back, and with its disk all is lost"
		f.Remedy = "Add two members: etcdctl member add NAME --learner --peer-urls=https://..., and promote them."
	case n%2 == 0:
		f.Verdict = Fail
		f.Reason = fmt.Sprintf("%d are an even number: they survive the loss of %d, as %d would, and one more can fail", n, survives, n-1)
		f.Remedy = fmt.Sprintf("Add a member, or remove one (etcdctl member remove ID), to have %d or %d.", n+1, n-1)
	case n > mostVoters:
		f.Verdict, f.Reason = Warn, fmt.Sprintf("%d are more than anybody needs: every write waits for %d of them", n, n/2+1)
		f.Remedy = "Remove members until there are 5 (etcdctl member remove ID), the leader last."
	default:
		f.Reason = fmt.Sprintf("%d, an odd number, survive the loss of %d", n, survives)
	}
	return f
}

// judgeNames says whether two members claim the same.
func judgeNames(members []*pb.Member) []Finding {
	names, urls := map[string][]string{}, map[string][]string{}
	for _, m := range members {
		id := fmt.Sprintf("%x", m.ID)
		if m.Name != "" {
			names[m.Name] = append(names[m.Name], id)
		}
		for _, u := range slices.Concat(m.PeerURLs, m.ClientURLs) {
			urls[u] = append(urls[u], id)
		}
	}
	var findings []Finding
	for what, claims := range map[string]map[string][]string{"name": names, "address": urls} {
		for _, claim := range slices.Sorted(maps.Keys(claims)) {
			if ids := claims[claim]; len(ids) > 1 {
				findings = append(findings, Finding{
					Verdict: Fail, Subject: what + " " + cli.Visible(claim), Reason: fmt.Sprintf("%d members claim it", len(ids)),
					Evidence: []string{"members " + strings.Join(ids, ", ")}, Remedy: "Give each member a --name and URLs of its own.",
				})
			}
		}
	}
	if findings == nil {
		findings = []Finding{{Verdict: OK, Subject: "names and addresses", Reason: "no two members have the same"}}
	}
	return findings
}

// judgeAddresses says whether members announce addresses that lead nowhere for others.
func judgeAddresses(given []string, members []*pb.Member) []Finding {
	for _, endpoint := range given {
		if host, _, err := net.SplitHostPort(hostOf(endpoint)); err == nil && local(host) {
			return nil // from here, they may lead to the members
		}
	}
	var findings []Finding
	for _, m := range members {
		for _, u := range slices.Concat(m.ClientURLs, m.PeerURLs) {
			parsed, err := url.Parse(u)
			if err == nil && !local(parsed.Hostname()) {
				continue
			}
			findings = append(findings, Finding{
				Verdict: Warn, Subject: cli.Visible(m.Name), Reason: "it announces " + cli.Visible(u) + ", which leads nowhere from other machines",
				Remedy: "Set --advertise-client-urls and --initial-advertise-peer-urls to what the others reach it by.",
			})
		}
	}
	return findings
}

// local reports whether a host is the machine itself, whichever that is.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// judgeVersions says whether members run one version, and a safe one.
func judgeVersions(all []*peer) []Finding {
	by := map[string][]string{}
	var findings []Finding
	for _, one := range all {
		switch {
		case one.status != nil:
			by[one.status.Version] = append(by[one.status.Version], one.title())
		case one.ClientURLs != nil:
			findings = append(findings, Finding{
				Verdict: Skipped, Subject: "version of " + one.title(), Reason: "the member gives no status", Evidence: []string{inLine(one.err)}, Remedy: "See check 4.",
			})
		}
	}
	versions := slices.Sorted(maps.Keys(by))
	for _, version := range versions {
		f := judgeVersion(cli.Visible(version))
		f.Evidence = append([]string{"run by " + strings.Join(by[version], ", ")}, f.Evidence...)
		findings = append(findings, f)
	}
	if len(versions) > 1 {
		findings = append(findings, Finding{
			Verdict: Warn, Subject: "versions", Reason: "members run different ones: an upgrade was begun and not ended", Evidence: versions,
			Remedy: "End the upgrade: a cluster has the features of its oldest member, and nobody tests mixtures for long.",
		})
	}
	for _, one := range all {
		if one.status.GetDowngradeInfo().GetEnabled() {
			return append(findings, Finding{
				Verdict: Warn, Subject: "downgrade", Reason: "the cluster is being taken back to " + cli.Visible(one.status.DowngradeInfo.TargetVersion),
				Remedy: "End it, or call it off: etcdctl downgrade cancel.",
			})
		}
	}
	return findings
}

// judgeLearners says whether learners learn.
func judgeLearners(all []*peer) []Finding {
	var head uint64
	for _, one := range all {
		head = max(head, one.status.GetRaftIndex())
	}
	var findings []Finding
	for _, one := range all {
		if !one.IsLearner {
			continue
		}
		f := Finding{Verdict: OK, Subject: "learner " + one.title()}
		switch has := one.status.GetRaftAppliedIndex(); {
		case one.status == nil:
			f.Verdict, f.Reason, f.Remedy = Warn, "it does not answer", "Start it, or remove it: etcdctl member remove "+fmt.Sprintf("%x", one.ID)+"."
			f.Evidence = []string{inLine(one.err)}
		case float64(has) < learned*float64(head):
			f.Verdict, f.Reason = Warn, fmt.Sprintf("it is behind, with %d of %d entries", has, head)
			f.Remedy = "Wait for it: it is sent a snapshot. If it does not come nearer, look at its network and its disk."
		default:
			f.Reason = fmt.Sprintf("it has %d of %d entries, and can be promoted: etcdctl member promote %x", has, head, one.ID)
		}
		findings = append(findings, f)
	}
	return findings
}
