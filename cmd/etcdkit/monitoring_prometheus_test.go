package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// prometheus is one that runs for a test.
type prometheus struct {
	api string // its base
}

// monitoringListens is what it logs once its address is open.
var monitoringListens = regexp.MustCompile(`msg="?Listening on"? address="?(127\.0\.0\.1:\d+)`)

// needPrometheus skips the test where there is no Prometheus, but not where nobody would notice.
func needPrometheus(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: bash .ci/run monitoring installs it", err)
		}
		t.Skipf("%v: install Prometheus (Debian's package is prometheus) to have the dashboard tested", err)
	}
}

// startPrometheus starts one that reads a target every other second and evaluates the alerts.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	alerts, err := filepath.Abs("../../docs/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, err := url.Parse("http://" + target)
	if err != nil {
		t.Fatal(err)
	}
	cfg := fmt.Sprintf(`global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [%q]
scrape_configs:
  - job_name: demo
    honor_labels: true
    metrics_path: %q
    static_configs: [{targets: [%q]}]
`, alerts, host.Path, host.Host)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=logfmt")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = soon
	logs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	address, ended := make(chan string, 1), make(chan struct{})
	var log []string
	go func() {
		defer close(ended)
		for in := bufio.NewScanner(logs); in.Scan(); {
			log = append(log, in.Text())
			if found := monitoringListens.FindStringSubmatch(in.Text()); found != nil && cap(address) > len(address) {
				address <- found[1]
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Logf("Prometheus: %q", log)
		}
	})
	select {
	case at := <-address:
		return &prometheus{api: "http://" + at + "/api/v1/"}
	case <-ended:
		t.Fatal("Prometheus has ended")
	case <-time.After(soon):
		t.Fatal("Prometheus does not listen")
	}
	return nil
}

// get asks the API.
func (p *prometheus) get(ctx context.Context, path string, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.api+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: %w: %s", response.Status, err, body)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}

// query evaluates an expression, and returns how many series it has whose value is a number.
func (p *prometheus) query(ctx context.Context, expr string) (int, error) {
	var data struct {
		ResultType string
		Result     []struct{ Value [2]any }
	}
	if err := p.get(ctx, "query?query="+url.QueryEscape(expr), &data); err != nil {
		return 0, err
	}
	if data.ResultType != "vector" {
		return 0, fmt.Errorf("a %s", data.ResultType)
	}
	n := 0
	for _, series := range data.Result {
		text, _ := series.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
			n++
		}
	}
	return n, nil
}

// values is a list of the API.
func (p *prometheus) values(t *testing.T, path string) []string {
	t.Helper()
	var values []string
	if err := p.get(t.Context(), path, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// alert is a rule as Prometheus has evaluated it.
type alert struct{ Name, Query, Health, LastError string }

// rules returns all alerts.
func (p *prometheus) rules(t *testing.T) []alert {
	t.Helper()
	var data struct{ Groups []struct{ Rules []alert } }
	if err := p.get(t.Context(), "rules?type=alert", &data); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range data.Groups {
		all = append(all, group.Rules...)
	}
	return all
}
