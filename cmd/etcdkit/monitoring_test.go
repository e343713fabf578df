package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// monitoringData is how long Prometheus may take, from the last thing that happens to the service on, to have what panels show. etcd's
// members measure the way to each other twice a minute.
const monitoringData = 45 * time.Second

// monitoringLater are names of etcd's that it has only once there is something to tell: an alarm.
var monitoringLater = []string{"etcd_server_alarms", "alarm_type"}

// A Prometheus that reads the demo's metrics can evaluate every expression of the dashboard and of the alerts, and every panel shows
// something.
func TestEveryPanelShowsDataFromTheDemo(t *testing.T) {
	needPrometheus(t)
	r := launch(t, "demo", "--metrics", ":0")
	p := startPrometheus(t, strings.TrimPrefix(r.expect("  metrics  "), "http://"))
	shown := untilShown(t, r, "processes to their orders and mails")

	board := readDashboard(t)
	p.untilAllHave(t, board)
	var names []string // of everything that is asked for
	for _, expr := range board.expressions() {
		names = append(names, monitoringNames(expr)...)
	}

	rules := p.rules(t)
	if len(rules) < 10 {
		t.Errorf("%d alerts, want all that are asked for", len(rules))
	}
	for _, rule := range rules {
		names = append(names, monitoringNames(rule.Query)...)
		if _, err := p.query(t.Context(), rule.Query); err != nil || rule.Health != "ok" {
			t.Errorf("alert %s: %v; health %s, %s", rule.Name, err, rule.Health, rule.LastError)
		}
	}

	documented := documentedMetrics(t)
	scraped := append(p.values(t, "label/__name__/values"), p.values(t, "labels")...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		known := slices.Contains(scraped, name) || slices.Contains(monitoringLater, name)
		if strings.HasPrefix(name, "etcdkit_") {
			known = documented[name]
		}
		if !known {
			t.Errorf("%s is asked for, and there is no metric and no label of that name", name)
		}
	}

	r.signal(syscall.SIGINT)
	out, code := r.wait()
	if code != 0 || r.errs.Len() > 0 || !strings.Contains(out, "All 12 held") {
		t.Errorf("after Ctrl-C: code %d, stderr %q\n%s%s", code, &r.errs, shown, out)
	}
	r.nothingLeft()
}

// untilShown returns what the demo shows until a line has these words.
func untilShown(t *testing.T, r *run, words string) string {
	t.Helper()
	var shown strings.Builder
	late := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-r.lines:
			fmt.Fprintln(&shown, line)
			switch {
			case !ok:
				_ = r.cmd.Wait()
				t.Fatalf("the demo has ended, stderr %q\n%s", &r.errs, shown.String())
			case strings.Contains(line, words):
				return shown.String()
			}
		case <-late:
			t.Fatalf("the demo takes too long:\n%s", shown.String())
		}
	}
}

// untilAllHave waits until every expression of a dashboard has data.
func (p *prometheus) untilAllHave(t *testing.T, board *dashboard) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), monitoringData)
	defer cancel()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		var missing []error
		for title, expr := range board.expressions() {
			switch n, err := p.query(ctx, expr); {
			case err != nil:
				missing = append(missing, fmt.Errorf("panel %q, %s: %w", title, expr, err))
			case n == 0:
				missing = append(missing, fmt.Errorf("panel %q, %s: no data", title, expr))
			}
		}
		if len(missing) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("after %v: %v", monitoringData, errors.Join(missing...))
		}
	}
}

// Grafana does not complain of a dashboard that it shows wrongly.
func TestTheDashboardIsSound(t *testing.T) {
	board := readDashboard(t)
	if board.SchemaVersion < 39 || board.UID == "" || board.Title == "" {
		t.Errorf("schema %d, uid %q, title %q", board.SchemaVersion, board.UID, board.Title)
	}
	variables := map[string]string{}
	for _, v := range board.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" {
		t.Errorf("variables %v: none for the data source", variables)
	}
	const wide = 24
	taken := map[[2]int]string{}
	ids := map[int]string{}
	for _, p := range board.Panels {
		if other, again := ids[p.ID]; again || p.ID == 0 {
			t.Errorf("%q and %q have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > wide {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, again := taken[[2]int{x, y}]; again {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, has no title, no description or no query", p.ID, p.Title)
		}
		var refs []string
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("%q asks %q", p.Title, target.Datasource.UID)
			}
			if slices.Contains(refs, target.RefID) {
				t.Errorf("%q has two queries %s", p.Title, target.RefID)
			}
			refs = append(refs, target.RefID)
			for _, used := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if name := used[1]; !strings.HasPrefix(name, "__") && variables[name] == "" {
					t.Errorf("%q uses the variable %s, which there is none of", p.Title, name)
				}
			}
		}
	}
}

// Whatever is measured is to be seen.
func TestTheDashboardShowsEveryMetric(t *testing.T) {
	var shown []string
	for _, expr := range readDashboard(t).expressions() {
		shown = append(shown, monitoringNames(expr)...)
	}
	for _, m := range documentedInstruments(t) {
		if !slices.ContainsFunc(shown, func(name string) bool { return slices.Contains(m.prometheus(), name) }) {
			t.Errorf("no panel shows %s", m.name)
		}
	}
}

func TestADemoWhoseMetricsCannotBeServedSaysSo(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, test := range []struct {
		addr, words string
		code        int
	}{
		{"9464", "etcdkit demo: --metrics 9464: it must be :PORT or HOST:PORT\nSee: etcdkit demo --help\n", exit.Misused},
		{":http-alt", "etcdkit demo: --metrics :http-alt: it must be :PORT or HOST:PORT\nSee: etcdkit demo --help\n", exit.Misused},
		{":65536", "etcdkit demo: --metrics :65536: it must be :PORT or HOST:PORT\nSee: etcdkit demo --help\n", exit.Misused},
		{":" + port, "etcdkit demo: --metrics :" + port + ": listen tcp 127.0.0.1:" + port + ": bind: address already in use\n", exit.Failed},
	} {
		out, errs, code := do(t, "demo", "--metrics", test.addr)
		if out != "" || errs != test.words || code != test.code {
			t.Errorf("--metrics %s: code %d, stdout %q, stderr %q", test.addr, code, out, errs)
		}
	}
}

// dashboard is what is looked at of one.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int } `json:"gridPos"`
		Datasource               struct{ UID string }
		Targets                  []struct {
			RefID      string `json:"refId"`
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

// expressions are those of all panels, with something for Grafana's variables, beside the titles of the panels.
func (d *dashboard) expressions() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				if !yield(panel.Title, monitoringVariables.Replace(target.Expr)) {
					return
				}
			}
		}
	}
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile("../../docs/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	board := &dashboard{}
	if err := json.Unmarshal(text, board); err != nil {
		t.Fatal(err)
	}
	return board
}

// instrument is a row of the table in docs/metrics.md.
type instrument struct {
	name, kind, unit string
	attributes       []string
}

// prometheus is what Prometheus calls the series of the instrument.
func (i instrument) prometheus() []string {
	name := strings.ReplaceAll(i.name, ".", "_")
	if i.unit == "s" {
		name += "_seconds"
	}
	switch i.kind {
	case "counter":
		return []string{name + "_total"}
	case "histogram":
		return []string{name + "_bucket", name + "_sum", name + "_count"}
	}
	return []string{name}
}

// documentedInstruments reads the table.
func documentedInstruments(t *testing.T) []instrument {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []instrument
	for _, row := range regexp.MustCompile("(?m)^\\| `(etcdkit[.\\w]+)` \\| (counter|gauge|histogram), (\\S+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		i := instrument{name: row[1], kind: row[2], unit: row[3]}
		for _, attribute := range regexp.MustCompile("`([\\w.]+)`").FindAllStringSubmatch(row[4], -1) {
			i.attributes = append(i.attributes, attribute[1])
		}
		all = append(all, i)
	}
	if len(all) < 20 {
		t.Fatalf("%d metrics are found in docs/metrics.md", len(all))
	}
	return all
}

// documentedMetrics are the names that docs/metrics.md has of metrics and of labels, as Prometheus has them.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, i := range documentedInstruments(t) {
		for _, name := range i.prometheus() {
			names[name] = true
		}
		for _, attribute := range i.attributes {
			names[strings.ReplaceAll(attribute, ".", "_")] = true
		}
	}
	return names
}

// monitoringVariables stand for what Grafana puts into an expression.
var monitoringVariables = strings.NewReplacer("$__rate_interval", "30s", "$member", ".*", "$instance", ".*")

var (
	monitoringTexts = regexp.MustCompile(`"[^"]*"`)
	monitoringWords = regexp.MustCompile(`[a-zA-Z_:][\w:]*\s*\(?`)
)

// monitoringNames returns the names of metrics and labels in an expression: words with an underscore that are no function.
func monitoringNames(expr string) []string {
	var names []string
	for _, word := range monitoringWords.FindAllString(monitoringTexts.ReplaceAllString(expr, ""), -1) {
		if name := strings.TrimSpace(word); strings.Contains(name, "_") && !strings.HasPrefix(name, "__") && !strings.HasSuffix(name, "(") {
			names = append(names, name)
		}
	}
	return names
}
