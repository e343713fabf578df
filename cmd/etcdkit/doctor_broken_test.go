package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// doctorReport is what is printed of a check with -o json.
type doctorReport struct {
	Number   int
	Check    string
	Verdict  string
	Findings []struct {
		Verdict, Subject, Reason, Remedy string
		Evidence                         []string
	}
}

// reports are those of some checks, by name.
func (c *doctorCluster) reports(user, only string, args ...string) (map[string]doctorReport, *result) {
	c.t.Helper()
	r := c.run(user, append([]string{"--only", only, "-o", "json"}, args...)...)
	return doctorReports(c.t, r), r
}

func doctorReports(t *testing.T, r *result) map[string]doctorReport {
	t.Helper()
	all := map[string]doctorReport{}
	for line := range strings.Lines(r.out) {
		var one doctorReport
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if one.Number == 0 || len(one.Findings) == 0 {
			t.Errorf("%+v", one)
		}
		for _, f := range one.Findings {
			if f.Subject == "" || f.Reason == "" || f.Verdict != "ok" && f.Remedy == "" {
				t.Errorf("%s: %+v", one.Check, f)
			}
		}
		all[one.Check] = one
	}
	return all
}

// of are the findings with a verdict, each as its subject and its reason.
func (r doctorReport) of(verdict string) (all []string) {
	for _, f := range r.Findings {
		if f.Verdict == verdict {
			all = append(all, f.Subject+": "+f.Reason)
		}
	}
	return all
}

// doctorHost is an address without its scheme.
func doctorHost(endpoint string) string { return endpoint[strings.Index(endpoint, "://")+3:] }

// aboutCluster are the checks that these tests are about.
const aboutCluster = "tls,auth,topology,health"

// fails expects exactly one check to fail, and one of its findings to say so in some words. Where others are skipped, it is because of that.
func (c *doctorCluster) fails(user, check, words string, skipped ...string) {
	c.t.Helper()
	reports, r := c.reports(user, aboutCluster, "--root", doctorRoot, "--keys", "app/")
	for name, one := range reports {
		want := "ok"
		if name == check {
			want = "fail"
		} else if slices.Contains(skipped, name) {
			want = "skipped"
		}
		if one.Verdict != want {
			c.t.Errorf("%s is %s, want %s: %+v", name, one.Verdict, want, one.Findings)
		}
	}
	if failed := reports[check].of("fail"); !slices.ContainsFunc(failed, func(f string) bool { return strings.Contains(f, words) }) {
		c.t.Errorf("%s: %q, want %q", check, failed, words)
	}
	if r.code != 4 || r.errs != "etcdkit doctor: 1 check failed: "+check+"\n" {
		c.t.Errorf("code %d, stderr %q", r.code, r.errs)
	}
}

// well expects all checks to be ok.
func (c *doctorCluster) well() {
	c.t.Helper()
	reports, r := c.reports(doctorApp, aboutCluster, "--root", doctorRoot, "--keys", "app/")
	for name, one := range reports {
		if one.Verdict != "ok" {
			c.t.Errorf("%s: %+v", name, one)
		}
	}
	if names := slices.Sorted(maps.Keys(reports)); r.code != 0 || r.errs != "" || len(names) != 4 {
		c.t.Errorf("code %d, stderr %q, %v", r.code, r.errs, names)
	}
}

func TestTheDoctorFindsWhatElseIsWrongWithACluster(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{})
	root, ctx := c.client(doctorRoot), doctorWithin(t)
	done := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.well()
	c.grant(root, "app", "other/", clientv3.GetPrefixRangeEnd("other/"))
	c.fails(doctorApp, "auth", "role app: it allows more than what was declared needs")
	done(root.RoleRevokePermission(ctx, "app", "other/", clientv3.GetPrefixRangeEnd("other/")))
	c.fails(doctorRoot, "auth", "this connection is root's")
	done(root.UserAdd(ctx, "empty", ""))
	done(root.UserGrantRole(ctx, "empty", "app"))
	c.fails(doctorApp, "auth", "users without a password: whoever knows their names")
	done(root.UserDelete(ctx, "empty"))
	c.well()
}

func TestTheDoctorFindsMembersThatTalkToEachOtherWithoutTLS(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{plaintext: true})
	c.fails(doctorApp, "tls", "peers: members talk to each other without TLS")
}

func TestTheDoctorFindsMembersThatDemandNoCertificates(t *testing.T) {
	t.Parallel()
	c := newDoctorCluster(t, doctorSetup{config: func(cfg doctorConfig) {
		security, _ := cfg["client-transport-security"].(doctorSecurity)
		delete(security, "client-cert-auth")
		delete(security, "trusted-ca-file")
		cfg["peer-transport-security"] = doctorSecurity{"auto-tls": true}
	}})
	c.fails(doctorApp, "tls", doctorHost(c.clients[0])+": it lets clients in without a certificate")
	c.fails(doctorApp, "tls", doctorHost(c.peers[2])+": it lets members in without a certificate")
}
