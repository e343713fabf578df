package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

// longConnect is how long nobody wants to wait for a connection while others could be had.
const longConnect = 10 * time.Second

// checkClient reviews how the application connects, and has it meet a member that hangs.
func checkClient(ctx context.Context, p *Patient) []Finding {
	var members []*pb.Member
	if p.Client != nil {
		members, _ = p.Members(ctx) // if they are not known, the number of endpoints is all that can be looked at
	}
	findings := []Finding{reviewEndpoints(p.Config.Endpoints, members), reviewBounds(p.Config.Retry), reviewLogin(p.Config)}
	return append(findings, oneHangs(ctx, p), allHang(ctx, p))
}

// reviewEndpoints looks at how many there are to turn to.
func reviewEndpoints(endpoints []string, members []*pb.Member) Finding {
	f := Finding{Verdict: OK, Subject: "endpoints", Reason: "there is another one for each that fails", Evidence: []string{
		fmt.Sprintf("%d given: %s", len(endpoints), strings.Join(endpoints, ", ")),
	}}
	if len(members) > 0 {
		f.Evidence = append(f.Evidence, cli.Plural(len(members), "member", "members")+" in the cluster")
	}
	hosts := make([]string, len(endpoints))
	for i, e := range endpoints {
		hosts[i] = hostOf(e)
	}
	slices.Sort(hosts)
	different := len(slices.Compact(hosts))
	switch {
	case different < len(endpoints):
		f.Verdict, f.Reason, f.Remedy = Warn, "one is given twice: it counts as two, and is one", "Name each member once."
	case len(members) > 0 && len(endpoints) > len(members):
		f.Verdict, f.Reason, f.Remedy = Warn, "there are more than members", "Name each member once, and none that has left."
	case len(members) == 1:
		f.Reason = "the only member is named"
	case len(endpoints) == 1:
		f.Verdict, f.Reason, f.Remedy = Warn, "there is one, and none to turn to when it fails", "Name all members, not one of them nor what balances between them: the client chooses better."
	case len(endpoints) < len(members):
		f.Verdict, f.Reason, f.Remedy = Warn, "not all members are named", "Name all of them: those that are not are never turned to."
	}
	return f
}

// reviewBounds looks at how long a call may take, and whether that leaves time for another member.
func reviewBounds(given retry.Policy) Finding {
	f := Finding{Verdict: OK, Subject: "timeouts and retries", Reason: "every call is bounded, and a member that hangs costs one attempt"}
	if err := given.Validate(); err != nil {
		f.Verdict, f.Reason, f.Remedy = Fail, inLine(err), "Mend pool.Config.Retry."
		return f
	}
	p := given.Effective()
	f.Evidence = []string{
		fmt.Sprintf("connect %v, first attempt %v, answer %v, in all %v", orNone(p.ConnectTimeout), orNone(p.AttemptTimeout), orNone(p.ReadTimeout), orNone(p.MaxElapsed)),
		fmt.Sprintf("%d attempts at most (0 is any number), waits of %v to %v, %.0f %% of them random", p.MaxAttempts, p.Initial, p.Max, 100*p.Jitter),
		"gRPC pings an idle connection, and gives it up after 13s; a member that lets attempts time out is left out before",
	}
	for _, rule := range []struct {
		broken bool
		Finding
	}{
		{p.ConnectTimeout == 0, Finding{Verdict: Fail, Reason: "there is no ConnectTimeout: a call without a deadline waits for ever for a connection", Remedy: "Set one: --dial-timeout, or pool.Config.Retry.ConnectTimeout."}},
		{p.ReadTimeout == 0 && p.MaxElapsed == 0, Finding{Verdict: Fail, Reason: "neither ReadTimeout nor MaxElapsed bounds a call: one without a deadline waits for ever for an answer", Remedy: "Set pool.Config.Retry.ReadTimeout."}},
		{p.AttemptTimeout == 0, Finding{Verdict: Fail, Reason: "attempts have no timeout: a member that hangs takes all the time of a call", Remedy: "Set pool.Config.Retry.AttemptTimeout to a quarter of ReadTimeout, or less."}},
		{p.MaxAttempts == 1, Finding{Verdict: Fail, Reason: "calls are tried once: what a second member would answer fails with the first", Remedy: "Set pool.Config.Retry.MaxAttempts to 3 or more."}},
		{p.ReadTimeout > 0 && 2*p.AttemptTimeout > p.ReadTimeout, Finding{Verdict: Warn, Reason: "the timeout of a first attempt leaves no time for a whole second one", Remedy: "Set pool.Config.Retry.AttemptTimeout to a quarter of ReadTimeout, or less."}},
		{p.ConnectTimeout > longConnect, Finding{Verdict: Warn, Reason: fmt.Sprintf("ConnectTimeout is %v: nobody learns before that that the cluster is away", p.ConnectTimeout), Remedy: "Set --dial-timeout, or pool.Config.Retry.ConnectTimeout, to a few seconds."}},
		{p.Jitter < 0.5, Finding{Verdict: Warn, Reason: "waits are hardly random: clients that failed together come back together", Remedy: "Leave pool.Config.Retry.Jitter at its default."}},
	} {
		if rule.broken {
			f.Verdict, f.Reason, f.Remedy = rule.Verdict, rule.Reason, rule.Remedy
			break
		}
	}
	return f
}

// reviewLogin looks at how the application says who it is. Whether it should be known at all, and by whom that can be read, is what checks 1
// and 2 are about.
func reviewLogin(c pool.Config) Finding {
	f := Finding{Verdict: OK, Subject: "credentials", Reason: "they last"}
	switch {
	case c.Credentials != nil:
		f.Evidence = []string{"a function is asked for them"}
	case c.Token != "":
		f.Verdict, f.Reason = Warn, "a token is given, and ends some time: calls are refused from then on"
		f.Evidence = []string{"a token (JWT)"}
		f.Remedy = "Set pool.Config.Credentials, which is asked for the next token, or use a name and a password."
	case c.Username != "":
		f.Evidence = []string{"user " + cli.Visible(c.Username) + " with a password, by which each token is followed by the next"}
	case c.TLS != nil && c.TLS.Cert != "":
		f.Evidence = []string{"a certificate, read again when its file changes"}
	default:
		f.Reason, f.Evidence = "there are none to be renewed", []string{"nobody"}
	}
	return f
}
