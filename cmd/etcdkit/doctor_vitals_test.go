package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// aboutLife are the checks that look at how a cluster lives, and not at how it is set up.
const aboutLife = "persistence,latency,client,monitoring"

// The tests of these do not run beside others: they measure.

// vitals examines how a cluster lives.
func (c *doctorCluster) vitals(args ...string) map[string]doctorReport {
	c.t.Helper()
	user := doctorApp
	if c.anybody() {
		user = ""
	}
	reports, r := c.reports(user, aboutLife, args...)
	if len(reports) != 4 {
		c.t.Fatalf("%d reports, want 4; exit code %d, %s", len(reports), r.code, r.errs)
	}
	for name, one := range reports {
		for _, f := range one.Findings {
			c.t.Logf("%s: %s: %s: %s\n\t%s\n\t→ %s", name, f.Verdict, f.Subject, f.Reason, strings.Join(f.Evidence, "\n\t"), f.Remedy)
		}
	}
	return reports
}

// anybody reports whether the cluster has no users.
func (c *doctorCluster) anybody() bool {
	c.t.Helper()
	auth, err := c.client("").AuthStatus(doctorWithin(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return !auth.Enabled
}

// liveIn has a cluster look as if it was used for a while: its history is compacted, and something was written since.
func (c *doctorCluster) liveIn() {
	c.t.Helper()
	user := doctorRoot
	if c.anybody() {
		user = ""
	}
	cli, ctx := c.client(user), doctorWithin(c.t)
	put, err := cli.Put(ctx, "app/greeting", "hello")
	if err == nil {
		_, err = cli.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = cli.Put(ctx, "app/greeting", "good day")
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// nothingOfTheDoctors fails the test if a key or a lease is left.
func (c *doctorCluster) nothingOfTheDoctors() {
	c.t.Helper()
	cli, ctx := c.client(doctorRoot), doctorWithin(c.t)
	keys, err := cli.Get(ctx, "etcdkit/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || keys.Count > 0 {
		c.t.Errorf("%d keys of the doctor's are left, %v", keys.Count, err)
	}
	leases, err := cli.Leases(ctx)
	if err != nil || len(leases.Leases) > 0 {
		c.t.Errorf("leases are left: %v, %v", leases, err)
	}
}

func TestTheDoctorLooksAtAClustersLife(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{})
	c.liveIn()
	t.Run("and writes nothing unless it may", func(t *testing.T) {
		c := c.in(t)
		before := c.written()
		for name, one := range c.vitals() { // as a user who may not see much: what that is is skipped, with what to do
			if one.Verdict != "ok" && one.Verdict != "skipped" {
				t.Errorf("%s is %s", name, one.Verdict)
			}
		}
		c.vitals("--root", doctorRoot)
		if after := c.written(); after != before {
			t.Errorf("%s became %s", before, after)
		}
	})

	t.Run("and deletes what it has written when it is interrupted", func(t *testing.T) {
		c := c.in(t)
		wrote := c.client(doctorRoot).Watch(clientv3.WithRequireLeader(t.Context()), "etcdkit/doctor/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		next := func(what string) {
			select {
			case <-wrote:
			case <-time.After(soon):
				t.Fatalf("%s did not come within %v", what, soon)
			}
		}
		next("the watch")
		r := launch(t, append([]string{"doctor", "--only", "latency", "--write", "--root", doctorRoot}, c.flags(doctorApp)...)...)
		next("a probe write")
		r.signal(syscall.SIGINT)
		if out, code := r.wait(); code != exit.Interrupted {
			t.Errorf("exit code %d, want %d: %s%s", code, exit.Interrupted, out, &r.errs)
		}
		c.nothingOfTheDoctors()
	})

	t.Run("and finds large keys, zombies in line and metrics that cannot be had", func(t *testing.T) { c.in(t).ails() })
}

// in is the cluster as a subtest's.
func (c *doctorCluster) in(t *testing.T) *doctorCluster {
	same := *c
	same.t = t
	return &same
}

// written is what tells whether anything was.
func (c *doctorCluster) written() string {
	c.t.Helper()
	now, err := c.client(doctorRoot).Get(doctorWithin(c.t), "app/greeting")
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("revision %d, %s leases granted", now.Header.Revision, c.metric("etcd_debugging_lease_granted_total"))
}

// metric is the value of a metric of member 0.
func (c *doctorCluster) metric(name string) string {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls(), DisableKeepAlives: true}, Timeout: soon}
	resp, err := client.Get(c.clients[0] + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), name+" "); ok {
			return value
		}
	}
	c.t.Fatalf("there is no metric %s", name)
	return ""
}

// ails gives a cluster one ailment after the other, and expects each to be found.
func (c *doctorCluster) ails() {
	t := c.t
	cli, ctx := c.client(doctorRoot), doctorWithin(t)
	look := func(subject, want, evidence string, args ...string) {
		t.Helper()
		reports, r := c.reports(doctorApp, "monitoring", append([]string{"--root", doctorRoot}, args...)...)
		found := false
		for _, f := range reports["monitoring"].Findings {
			switch {
			case f.Subject != subject && f.Verdict == "fail":
				t.Errorf("%s fails, too: %s", f.Subject, f.Reason)
			case f.Subject == subject:
				if found = true; f.Verdict != want || !strings.Contains(strings.Join(f.Evidence, "\n"), evidence) {
					t.Errorf("%s is %s: %s %q; want %s with %q", subject, f.Verdict, f.Reason, f.Evidence, want, evidence)
				}
			}
		}
		if !found {
			t.Errorf("nothing is said of %s: %s%s", subject, r.out, r.errs)
		}
	}
	put := func(key string, size int, opts ...clientv3.OpOption) {
		t.Helper()
		if _, err := cli.Put(ctx, key, strings.Repeat(" ", size), opts...); err != nil {
			t.Fatal(err)
		}
	}
	put("app/picture", 300<<10)
	look("large keys", "warn", "app/picture: 300 KiB")
	put("app/film", 1100<<10)
	look("large keys", "fail", "app/film: 1.1 MiB")
	put("app/picture", 0)
	put("app/film", 0)

	lease, err := cli.Grant(ctx, 3600)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("app/lock/%x", lease.ID)
	put(line+"-1", 0, clientv3.WithLease(lease.ID))
	put("app/blobs/0123456789abcdef", 0) // looks like a place, and is in no line
	look("zombies in line", "ok", "1 place in 1 line")
	put(line+"-2", 0)
	look("zombies in line", "fail", "-2: it hangs on no lease")
	put(line+"-2", 0, clientv3.WithLease(lease.ID))
	if _, err := cli.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}

	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deaf.Close() }()
	look("metrics", "fail", "m2", "--metrics-urls", strings.Join(c.clients[:2], ",")+",https://"+deaf.Addr().String())
	look("metrics", "ok", "/metrics")
}
