package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABadCommandLineOfConfigIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := shellOn(t, "127.0.0.1:1") // nothing is sent
	for words, args := range map[string][]string{
		`unknown command "bogus"`:                  {"bogus"},
		"get: KEY is missing":                      {"get"},
		`get: unexpected argument "b"`:             {"get", "a", "b"},
		"unknown flag: --bogus":                    {"get", "a", "--bogus"},
		"-o yaml: it must be text or json":         {"get", "a", "-o", "yaml"},
		"--dial-timeout -1s":                       {"get", "a", "--dial-timeout", "-1s"},
		"--version, --rev and --at: only one":      {"get", "a", "--version", "1", "--rev", "2"},
		"--version 0: versions begin with 1":       {"get", "a", "--version", "0"},
		"--rev -3: revisions begin with 1":         {"get", "a", "--rev", "-3"},
		`time "noon": write 2026-05-17T14:30:00Z`:  {"get", "a", "--at", "noon"},
		"put: a value is missing":                  {"put", "a"},
		"a value and --file: only one":             {"put", "a", "b", "--file", "c"},
		"--expect many: it must be a revision":     {"put", "a", "b", "--expect", "many"},
		"--expect -1: it must be a revision":       {"put", "a", "b", "--expect=-1"},
		`version "x": it must be a number`:         {"diff", "a", "x"},
		"rollback: VERSION is missing":             {"rollback", "a"},
		`version "0": it must be a number`:         {"rollback", "a", "0"},
		"history: -n -1: it must not be negative":  {"history", "a", "-n", "-1"},
		"watch: -n -1: it must not be negative":    {"watch", "a", "-n", "-1"},
		"--from 0: revisions begin with 1":         {"watch", "a", "--from", "0"},
		"promote: TO is missing":                   {"promote", "a"},
		"import: FILE is missing":                  {"import"},
		"rollout: --step is missing":               {"rollout", "a", "b"},
		"rollout: a value is missing":              {"rollout", "a", "--step", "10%"},
		"--check-every and --check-within must":    {"rollout", "a", "b", "--step", "10%", "--check-every", "-1s"},
		`invalid argument "10" for "--step" flag`:  {"rollout", "a", "b", "--step", "10"},
		`invalid argument "0%" for "--step" flag`:  {"rollout", "a", "b", "--step", "0%"},
		`invalid argument "eu" for "--label" flag`: {"rollout", "a", "b", "--label", "eu"},
		"pause: KEY is missing":                    {"rollout", "pause"},
	} {
		s.fails(2, words, args...)
	}
	shellOn(t, "http://127.0.0.1:1").fails(2, "files for TLS are named, and endpoint", "get", "a", "--cacert", "ca.pem")
	shellOn(t, "127.0.0.1").fails(2, `endpoint "127.0.0.1": a host and a port are needed`, "get", "a")
}

func TestWithoutAConfigCommandThereIsHelpThatNamesTheExitCodes(t *testing.T) {
	t.Parallel()
	out, errs, code := do(t, "config")
	for _, words := range []string{"Exit codes:", "  3  somebody else", "  4  the rollout", "ETCDCTL_ENDPOINTS", "  promote ", "  rollout "} {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}

func TestAnEtcdThatCannotBeReachedIsNamed(t *testing.T) {
	t.Parallel()
	s := shellOn(t, "127.0.0.1:1,localhost:2")
	r := s.fails(1, "no member answers: 127.0.0.1:1: ", "get", "a", "--dial-timeout", "300ms")
	if !strings.Contains(r.errs, "localhost:2: ") || strings.Count(r.errs, "connection refused") != 2 {
		t.Errorf("stderr %q", r.errs)
	}
	shellOn(t, "https://127.0.0.1:1").fails(1, "--cacert: open /none: no such file", "get", "a", "--cacert", "/none")
	s.fails(1, "keyring: open /none: no such file", "get", "a", "--keyring", "/none")
}

func TestTheEnvironmentOfEtcdctlSaysWhereEtcdIs(t *testing.T) {
	s := newShell(t)
	t.Setenv("ETCDCTL_ENDPOINTS", s.endpoint)
	if out, errs, code := do(t, "config", "put", s.root+"/a", "1"); code != 0 || errs != "" || !strings.Contains(out, "version 1") {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errs)
	}
	t.Setenv("ETCDCTL_ENDPOINTS", "127.0.0.1:1")
	if got := s.ok("get", "./a"); got != "1" {
		t.Errorf("the flag does not win: %q", got)
	}
}

func TestAFileIsReadAndOneThatIsMissingNamed(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "limits.json")
	s.fails(1, "limits.json: no such file", "put", "./a", "--file", file)
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("put", "./a", "--file", file)
	if got := s.ok("get", "./a"); got != "{}\n" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(file, make([]byte, 800<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(1, "./b: value too large: 819200 bytes, at most 716800", "put", "./b", "-f", file)
	s.fails(1, `key name "`+s.root+`/a/" refused: it ends in a slash`, "get", "./a/")
}
