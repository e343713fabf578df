package main

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// benchPrefix is what all that the command writes is below.
const benchPrefix = "etcdkit/bench/"

// benchShell is a shell on an etcd of the test's own, so that what is left can be told.
func benchShell(t *testing.T) *shell {
	t.Helper()
	s := shellOn(t, ownEtcd(t))
	s.kind = "bench"
	return s
}

// benchClean fails the test if a key or a lease is left.
func benchClean(s *shell, cli *clientv3.Client) {
	s.t.Helper()
	if resp, err := cli.Get(s.t.Context(), "", clientv3.WithPrefix()); err != nil || resp.Count > 0 {
		s.t.Errorf("keys are left: %v, %v", resp.Kvs, err)
	}
	if leases, err := cli.Leases(s.t.Context()); err != nil || len(leases.Leases) > 0 {
		s.t.Errorf("leases are left: %v, %v", leases, err)
	}
}

// benchWait waits until the keys of runs are as they should be: it reads again at every change.
func benchWait(s *shell, cli *clientv3.Client, are func(keys []string) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	for range cli.Watch(ctx, benchPrefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		resp, err := cli.Get(ctx, benchPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			s.t.Fatal(err)
		}
		var keys []string
		for _, kv := range resp.Kvs {
			keys = append(keys, string(kv.Key))
		}
		if are(keys) {
			return
		}
	}
	s.t.Fatalf("the keys were not as they should be within %v", soon)
}

func TestABenchMeasuresEachRecipeAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := benchShell(t)
	r := s.run("--count", "30", "--clients", "3", "--rate", "0")
	if r.code != 0 {
		t.Fatalf("code %d: %s", r.code, r.errs)
	}
	s.holds(r.errs, "measuring put, lock, hand-over, watch, batch: 30 operations each, 3 clients, as fast as the cluster can\n",
		"writing below "+benchPrefix, "/ only, all of which is deleted at the end\n")
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	if len(lines) != 6 || strings.Join(strings.Fields(lines[0]), " ") != "MEASURED CLIENTS COUNT PER SECOND P50 P90 P99 MAX" {
		t.Fatalf("%s", r.out)
	}
	for i, name := range []string{"put", "lock", "hand-over", "watch", "batch"} {
		cells := strings.Fields(lines[i+1])
		if len(cells) != 12 || cells[0] != name || cells[1] != "3" || cells[2] != "30" || cells[11] != "ms" || len(lines[i+1]) > 80 {
			t.Errorf("%q", lines[i+1])
		}
	}
	benchClean(s, s.client())
}

func TestABenchOfOnePartInJSON(t *testing.T) {
	t.Parallel()
	s := benchShell(t)
	began := time.Now()
	all := s.objects("--only", "hand-over", "--only", "batch", "--count", "20", "--clients", "1", "--rate", "50")
	took := time.Since(began).Seconds()
	if len(all) != 2 || all[0]["measured"] != "hand-over" || all[1]["measured"] != "batch" {
		t.Fatalf("%v", all)
	}
	for i, o := range all {
		least := 0.0
		for _, field := range []string{"p50Seconds", "p90Seconds", "p99Seconds", "maxSeconds", "seconds"} {
			v, _ := o[field].(float64)
			if v <= 0 || v < least || v > took {
				t.Errorf("%s is %v after %v, of %v in all", field, o[field], least, took)
			}
			least = v
		}
		// 20 operations of 50 a second begin within 19/50 of one.
		seconds, _ := o["seconds"].(float64)
		rate, _ := o["perSecond"].(float64)
		if o["count"] != 20.0 || o["clients"] != float64(2-i) || o["operation"] == "" || seconds < 0.37 || rate < 1 || rate > 54 {
			t.Errorf("%v", o)
		}
	}
	benchClean(s, s.client())
}

func TestABenchThatIsInterruptedDeletesWhatItWrote(t *testing.T) {
	t.Parallel()
	s := benchShell(t)
	cli := s.client()
	r := launch(t, "bench", "--endpoints", s.endpoint, "--only", "put,lock", "--duration", "10m", "-o", "json")
	benchWait(s, cli, func(keys []string) bool { return len(keys) == 2 })
	r.signal(syscall.SIGINT)
	out, code := r.wait()
	if all := objectsOf(t, out); code != 130 || len(all) != 1 || all[0]["measured"] != "put" {
		t.Errorf("code %d, stdout %q", code, out)
	}
	s.holds(r.errs.String(), "measuring put, lock: 10m0s each", "\netcdkit bench: interrupted\n")
	benchClean(s, cli)
}

func TestWhatABenchHasWrittenGoesWithItWhenItIsKilled(t *testing.T) {
	t.Parallel()
	s := benchShell(t)
	cli := s.client()
	var killed []*run
	kinds := []string{"put", "hand-over", "watch", "batch"}
	for _, only := range kinds {
		killed = append(killed, launch(t, "bench", "--endpoints", s.endpoint, "--only", only, "--duration", "10m"))
	}
	benchWait(s, cli, func(keys []string) bool {
		return !slices.ContainsFunc(kinds, func(kind string) bool {
			return !slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, "/"+kind+"/") })
		})
	})
	for _, r := range killed {
		r.signal(syscall.SIGKILL)
		r.wait()
	}
	benchWait(s, cli, func(keys []string) bool { return len(keys) == 0 })
	benchClean(s, cli)
}

func TestWhatABenchMayNotWriteIsSaid(t *testing.T) {
	t.Parallel()
	s := shellOn(t, protected(t, "/test/"))
	s.kind = "bench"
	s.fails(1, "put: etcdserver: permission denied", "--user", "reader:letmein", "--only", "put")
	s.fails(1, "/lock/", "--user", "reader:letmein", "--only", "lock")
	s.fails(1, "invalid user ID or password", "--user", "reader:wrong")
}

func TestABadCommandLineOfBenchIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := shellOn(t, "127.0.0.1:1") // nothing is sent
	s.kind = "bench"
	for words, args := range map[string][]string{
		`unknown command "x"`:                           {"x"},
		"--only bogus: there is no such measurement (p": {"--only", "lock,bogus"},
		"--count and --duration: only one of them":      {"--count", "1", "--duration", "1s"},
		"--count -1: it must be from 1 to 1000000":      {"--count", "-1"},
		"--count 1000001: it must be":                   {"--count", "1000001"},
		"--duration 0s: it must be positive, and 10m0s": {"--duration", "0s"},
		"--duration 11m0s: it must be positive, and 10": {"--duration", "11m"},
		"--clients 0: it must be from 1 to 1000":        {"--clients", "0"},
		"--rate -1: it must be from 0 to 1000000":       {"--rate", "-1"},
		"-o text: it must be table or json":             {"-o", "text"},
		`invalid argument "x" for "--duration" flag`:    {"--duration", "x"},
		"unknown flag: --bogus":                         {"--bogus"},
	} {
		s.fails(2, words, args...)
	}
	s.fails(1, "no member answers: 127.0.0.1:1: ", "--dial-timeout", "300ms")
	out, errs, code := do(t, "bench", "--help")
	for _, words := range []string{"Exit codes:\n    0  measured\n    1  failed", "\n    2  the command line", "\n  130  interrupted", "etcdkit/bench/", "  hand-over  from a release"} {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}
