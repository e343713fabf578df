package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// lookAgain is when slow watchers are counted a second time: one that has just begun in the past is none.
const lookAgain = time.Second

// checkMonitoring looks whether the cluster can be watched, and at what dashboards do not show: keys, leases, lines and watchers.
func checkMonitoring(ctx context.Context, p *Patient) []Finding {
	all, _ := sites(ctx, p) // those that could not be listed are check topology's
	findings, pages := exposed(ctx, p, all)
	client := p.Privileged()
	const grant = "Examine with --root USER, who may read all keys."
	if keys, err := sampleKeys(ctx, client); err != nil {
		findings = append(findings, notSeen("large keys", err, grant), notSeen("zombies in line", err, grant))
	} else {
		findings = append(findings, keys.sizes(), zombies(ctx, client, keys))
	}
	if l, err := lookAtLeases(ctx, client); err != nil {
		findings = append(findings, notSeen("leases without keys", err, grant))
	} else {
		findings = append(findings, l.finding())
	}
	return append(findings, watchers(ctx, p, all, pages))
}

// exposed looks whether the members serve their metrics, and returns those.
func exposed(ctx context.Context, p *Patient, all []*site) ([]Finding, map[*site]gauges) {
	f := Finding{Verdict: OK, Subject: "metrics", Reason: "every member that answers serves them"}
	var unseen []Finding
	pages := map[*site]gauges{}
	for _, s := range all {
		g, err := scrape(ctx, p, s)
		if _, ok := g.value("etcd_server_has_leader"); err == nil && !ok {
			err = errors.New("the page is not one of etcd's metrics")
		}
		switch {
		case err == nil:
			pages[s] = g
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %d metrics at %s", s.name, len(g), s.metrics))
		case errors.Is(err, errNoAddress):
			unseen = append(unseen, Finding{
				Verdict: Skipped, Subject: "metrics of " + s.name, Reason: "where they are is not known", Remedy: "Say so with --metrics-urls.",
			})
		case !s.alive():
			unseen = append(unseen, Finding{
				Verdict: Skipped, Subject: "metrics of " + s.name, Reason: "the member does not answer at all", Evidence: []string{inLine(err)}, Remedy: "See check 4.",
			})
		default:
			f.Verdict, f.Reason = Fail, "a member's cannot be had: nobody will see what is wrong with it"
			f.Evidence = append(f.Evidence, s.name+": "+inLine(err))
			f.Remedy = "Start members with --listen-metrics-urls=http://ADDRESS:2381, and name those here with --metrics-urls."
		}
	}
	if f.Verdict == OK && len(pages) == 0 {
		return unseen, pages
	}
	return append([]Finding{f}, unseen...), pages
}

// watchers judges how many there are, and whether they keep up.
func watchers(ctx context.Context, p *Patient, all []*site, pages map[*site]gauges) Finding {
	f := Finding{Verdict: OK, Subject: "watchers", Reason: "they keep up"}
	if len(pages) == 0 {
		f.Verdict, f.Reason, f.Remedy = Skipped, "no member's metrics could be had", "See what is said of metrics above."
		return f
	}
	const slow = "etcd_debugging_mvcc_slow_watcher_total"
	behind := 0
	for _, s := range all {
		g, ok := pages[s]
		if !ok {
			continue
		}
		watching, known := g.value("etcd_debugging_mvcc_watcher_total")
		if !known {
			f.Verdict, f.Reason, f.Remedy = Skipped, "members do not tell how many there are", "Do not drop etcd_debugging_ metrics on the way."
			return f
		}
		streams, _ := g.value("etcd_debugging_mvcc_watch_stream_total")
		late, _ := g.value(slow)
		if late > 0 {
			late = min(late, again(ctx, p, s, slow))
		}
		behind += int(late)
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s in %s, %d slow", s.name, cli.Plural(int(watching), "watcher", "watchers"), cli.Plural(int(streams), "stream", "streams"), int(late)))
	}
	if behind > 0 {
		f.Verdict, f.Reason = Warn, fmt.Sprintf("%s do not keep up: they see changes late, and the members hold these for them", cli.Plural(behind, "watcher", "watchers"))
		f.Remedy = "Find the clients that read their watch channels slowly, or watch from revisions long past; watch less, or with filters."
	}
	return f
}

// again is a metric a little later; 0 if it cannot be had.
func again(ctx context.Context, p *Patient, s *site, name string) float64 {
	if !pause(ctx, lookAgain) {
		return 0
	}
	g, err := scrape(ctx, p, s)
	if err != nil {
		return 0
	}
	v, _ := g.value(name)
	return v
}
