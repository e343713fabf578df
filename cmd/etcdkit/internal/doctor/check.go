package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// overtime is how long a check may take to return once its context has ended.
const overtime = 2 * time.Second

// check is one of the eight things to verify before going live. It reads only, unless the patient lets it write, and reports an error of
// its own as a finding: an error of etcd to a user that may not look is Skipped, with the permission that is missing.
type check struct {
	number int
	name   string        // one word, for --only
	title  string        // for people
	within time.Duration // how long run may take: its context ends then
	blind  bool          // run can do without Patient.Client; if not, and there is none, all of it is Skipped
	run    func(ctx context.Context, p *Patient) []Finding
}

// checks are all, in the order in which they are made and printed.
var checks = []check{
	{1, "tls", "Encryption and certificates", 30 * time.Second, true, checkTLS},
	{2, "auth", "Authentication and roles", 30 * time.Second, false, checkAuth},
	{3, "topology", "Members and versions", 30 * time.Second, false, checkTopology},
	{4, "health", "Health and failover", 30 * time.Second, true, checkHealth},
	{5, "persistence", "Backups, size and history", 10 * time.Minute, false, checkPersistence},
	{6, "latency", "Latency and heartbeats", time.Minute, false, checkLatency},
	{7, "client", "The client's timeouts and retries", time.Minute, true, checkClient},
	{8, "monitoring", "Metrics, keys and leases", 2 * time.Minute, false, checkMonitoring},
}

// report makes the check.
func (c check) report(ctx context.Context, p *Patient) Report {
	r := Report{Number: c.number, Name: c.name}
	if p.Client == nil && !c.blind {
		f := Finding{Verdict: Skipped, Subject: "connection", Reason: "there is none to the cluster", Remedy: "Mend what checks 1 and 4 say, and examine again."}
		if !p.told { // it is long, and the same for all
			p.told, f.Evidence = true, []string{inLine(p.Unreached)}
		}
		r.Findings = []Finding{f}
	} else {
		r.Findings = c.bounded(ctx, p)
	}
	if len(r.Findings) == 0 {
		r.Findings = []Finding{{Verdict: Skipped, Subject: c.name, Reason: "nothing was looked at"}}
	}
	r.Verdict = worst(r.Findings)
	return r
}

// bounded returns what the check finds, within its time.
func (c check) bounded(ctx context.Context, p *Patient) []Finding {
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	found := make(chan []Finding, 1)
	go func() { found <- c.run(ctx, p) }()
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(overtime, func() { close(late) }) })
	defer stop()
	select {
	case all := <-found:
		return all
	case <-late:
		return []Finding{{Verdict: Skipped, Subject: c.name, Reason: fmt.Sprintf("the check did not end within %v, and was left", c.within)}}
	}
}

// verdicts are all, from best to worst.
var verdicts = []Verdict{OK, Skipped, Warn, Fail}

// worst is the verdict on all of some findings.
func worst(findings []Finding) Verdict {
	n := 0
	for _, f := range findings {
		n = max(n, slices.Index(verdicts, f.Verdict))
	}
	return verdicts[n]
}

// inLine is the text of an error in a line.
func inLine(err error) string {
	if err == nil {
		return "unknown"
	}
	return cli.Plainly(err.Error())
}
