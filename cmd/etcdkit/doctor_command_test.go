package main

import (
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestABadCommandLineOfTheDoctorIsToldInOneLine(t *testing.T) {
	t.Parallel()
	for words, args := range map[string][]string{
		"--only pulse: there is no such check (tls, auth, topology, ": {"--only", "tls,pulse"},
		`unknown command "now"`:                         {"now"},
		"-o yaml: it must be table or json":             {"-o", "yaml"},
		"--session-ttl -1s: it must be positive":        {"--session-ttl", "-1s"},
		"--heartbeat-interval -1s: it must be positive": {"--heartbeat-interval", "-1s"},
		"--quota-backend-bytes -1: it must be positive": {"--quota-backend-bytes", "-1"},
		`--recipe locks=a: unknown recipe "locks"`:      {"--recipe", "locks=a"},
		"--recipe lock=: ":                              {"--recipe", "lock="},
		"--keys: a prefix is needed":                    {"--keys", ""},
		"files for TLS are named, and endpoint":         {"--cacert", "ca.pem", "--endpoints", "http://127.0.0.1:1"},
	} {
		r := doctorRun(t, args...)
		if r.code != 2 || r.out != "" || !strings.HasPrefix(r.errs, "etcdkit doctor: "+words) || r.errs[strings.IndexByte(r.errs, '\n')+1:] != "See: etcdkit doctor --help\n" {
			t.Errorf("%q: code %d, stdout %q, stderr %q; want %q", args, r.code, r.out, r.errs, words)
		}
	}
}

func TestTheDoctorsHelpNamesItsChecksAndExitCodes(t *testing.T) {
	t.Parallel()
	out, errs, code := do(t, "doctor", "--help")
	for _, words := range []string{
		"  1  tls ", "  8  monitoring ", "Exit codes:\n    0  all is well", "    1  the cluster could not", "    2  the command line", "    3  there are warnings", "    4  something fails",
	} {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}

func TestTheDoctorNeedsSomebodyWhoAnswers(t *testing.T) {
	t.Parallel()
	one := func(r *result, words string) {
		t.Helper()
		if r.code != 1 || r.out != "" || strings.Count(r.errs, "\n") != 1 || !strings.HasPrefix(r.errs, "etcdkit doctor: "+words) {
			t.Errorf("code %d, stdout %q, stderr %q; want %q", r.code, r.out, r.errs, words)
		}
	}
	one(doctorRun(t, "--endpoints", "127.0.0.1:1"), "no member answers: 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused")
	one(doctorRun(t, "--endpoints", "https://127.0.0.1:1", "--cacert", "/none"), "--cacert: open /none: no such file")
	one(doctorRun(t, "--endpoints", "127.0.0.1:1", "--user", "app"), `user "app" has no password, and there is no terminal to ask on`)

	c := newDoctorCluster(t, doctorSetup{members: 1})
	one(c.run("app:wrong"), `authenticate as "app": etcdserver: authentication failed`)
	one(c.run(doctorApp, "--root", "root:wrong"), `--root root: authenticate as "root": etcdserver: authentication failed`)
}

func TestTheDoctorWarnsOfASingleMemberAndSkipsWhatItMayNotSee(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{members: 1, memberCert: func(cert *x509.Certificate) { cert.NotAfter = time.Now().Add(20 * 24 * time.Hour) }})
	reports, r := c.reports(doctorApp, aboutCluster, "--keys", "app/", "--recipe", "session")
	if r.code != 3 || r.errs != "etcdkit doctor: 2 checks with warnings: tls, topology\n" {
		t.Errorf("code %d, stderr %q", r.code, r.errs)
	}
	for check, words := range map[string]string{
		"tls":      "certificate of " + doctorHost(c.clients[0]) + ": it expires in 19 days",
		"topology": "voters: there is only one",
	} {
		if got := strings.Join(reports[check].of("warn"), "\n"); !strings.Contains(got, words) {
			t.Errorf("%s: %q, want %q", check, got, words)
		}
	}
	if got := reports["auth"]; got.Verdict != "skipped" || len(got.of("ok")) != 4 || got.of("skipped")[0] != "other users: they are shown to root alone" {
		t.Errorf("%+v", got)
	}
	if reports["health"].Verdict != "ok" {
		t.Errorf("%+v", reports["health"])
	}
	// What is skipped is no failure.
	if r := c.run(doctorApp, "--only", "auth"); r.code != 0 || !strings.Contains(r.out, "was not declared") || !strings.HasSuffix(r.out, "\n1 check: 1 skipped (auth)\n") {
		t.Errorf("code %d, %q", r.code, r.out)
	}
	if got := c.missing("--recipe", "lock=orders"); !strings.Contains(got, `it may not read and write what begins with "orders/", as lock orders needs`) {
		t.Errorf("%q", got)
	}
}

// missing is what is said of the rights that the application lacks.
func (c *doctorCluster) missing(args ...string) string {
	c.t.Helper()
	reports, _ := c.reports(doctorApp, "auth", args...)
	for _, f := range reports["auth"].Findings {
		if f.Subject == "rights of app" && f.Verdict == "fail" {
			return strings.Join(f.Evidence, "\n")
		}
	}
	return ""
}

func TestTheDoctorExplainsWhyACertificateIsNotTaken(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{members: 1, noAuth: true, memberCert: func(cert *x509.Certificate) { cert.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }})
	tells := func(r *result, words ...string) {
		t.Helper()
		reports := doctorReports(t, r)
		if r.code != 4 || r.errs != "etcdkit doctor: 1 check failed: tls\n" || reports["health"].Verdict != "skipped" || reports["auth"].Verdict != "skipped" {
			t.Errorf("code %d, stderr %q, %+v", r.code, r.errs, reports)
		}
		for _, w := range words {
			if !strings.Contains(r.out, w) {
				t.Errorf("no %q in %s", w, r.out)
			}
		}
	}
	only := []string{"--only", aboutCluster, "-o", "json"}
	flags := func(endpoint, ca string, args ...string) []string {
		return append(append([]string{"--endpoints", endpoint, "--cacert", c.file(ca)}, args...), only...)
	}
	byName := strings.Replace(c.clients[0], "127.0.0.1", "localhost", 1)
	own := []string{"--cert", c.file("client.pem"), "--key", c.file("client-key.pem")}
	tells(c.run("", only...), "its certificate is for other names", "for localhost, 127.0.0.2, until ", "Issue it for 127.0.0.1 as well")
	tells(doctorRun(t, flags(byName, "client.pem", own...)...), "its certificate is of an authority that is not trusted here", "Give the authority that signed it: --cacert.")
	tells(doctorRun(t, flags(byName, "ca.pem")...), "it demands a certificate, and there is none to show")
	tells(doctorRun(t, append([]string{"--endpoints", doctorHost(byName)}, only...)...), "it speaks TLS, and is named without", "Name it "+byName)
}

func TestTheDoctorDiagnosesAClusterWithoutAMajority(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{})
	c.kill(0)
	c.kill(2)
	reports, r := c.reports(doctorApp, aboutCluster)
	health := strings.Join(reports["health"].of("fail"), "\n")
	for _, words := range []string{"m0 (" + doctorHost(c.clients[0]) + "): it does not answer", "m2 (", "quorum: it is lost", "leader: members know none"} {
		if !strings.Contains(health, words) {
			t.Errorf("no %q in %q", words, health)
		}
	}
	if r.code != 4 || reports["auth"].Verdict != "skipped" || reports["topology"].Verdict != "skipped" || reports["tls"].Verdict != "skipped" {
		t.Errorf("code %d, %+v", r.code, reports)
	}
}

func TestTheDoctorsLinesFit(t *testing.T) {
	t.Parallel()
	out, _, code := do(t, "doctor", "--endpoints", sharedEtcd(t), "--only", aboutCluster, "-v")
	if code != 4 || !strings.HasPrefix(out, "  1  Encryption and certificates ") || !strings.HasSuffix(out, "\n4 checks: 1 ok, 1 warn (topology), 2 fail (tls, auth)\n") {
		t.Errorf("code %d, %s", code, out)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(line) - 1; n > 80 || strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
