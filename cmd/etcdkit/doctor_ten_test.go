package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The tests of this file do not run beside those of others: each makes all eight checks, some of which measure.

// all examines a cluster in every respect.
func (c *doctorCluster) all(user string) (map[string]doctorReport, *result) {
	c.t.Helper()
	snapshots := c.t.TempDir()
	r := c.run(user, append([]string{"--root", doctorRoot, "--keys", "app/", "--write", "--snapshot", snapshots, "--session-ttl", "20s", "-o", "json"}, c.slow...)...)
	reports := doctorReports(c.t, r)
	if left, err := os.ReadDir(snapshots); err != nil || len(left) > 0 {
		c.t.Errorf("the snapshots' directory holds %v, %v", left, err)
	}
	if len(reports) != 8 {
		c.t.Fatalf("%d reports, want 8; exit code %d, %s", len(reports), r.code, r.errs)
	}
	return reports, r
}

// failsAlone expects exactly one of all eight checks to fail, and one of its findings to say so in some words. What others say because
// of that is named ("latency: skipped"); all else is ok.
func (c *doctorCluster) failsAlone(user, check, words string, follows ...string) {
	c.t.Helper()
	reports, r := c.all(user)
	for _, name := range slices.Sorted(maps.Keys(reports)) {
		one, want := reports[name], "ok"
		if name == check {
			want = "fail"
		}
		for _, f := range follows {
			if verdict, ok := strings.CutPrefix(f, name+": "); ok {
				want = verdict
			}
		}
		if one.Verdict != want {
			c.t.Errorf("%s is %s, want %s: %+v", name, one.Verdict, want, one.Findings)
		}
	}
	failed := reports[check].of("fail")
	if !slices.ContainsFunc(failed, func(f string) bool { return strings.Contains(f, words) }) {
		c.t.Errorf("%s: %q, want %q", check, failed, words)
	}
	if r.code != 4 || r.errs != "etcdkit doctor: 1 check failed: "+check+"\n" {
		c.t.Errorf("code %d, stderr %q", r.code, r.errs)
	}
	c.t.Logf("%s alone fails: %s", check, strings.Join(failed, "; "))
}

// wellInAll expects all eight checks to be ok.
func (c *doctorCluster) wellInAll() {
	c.t.Helper()
	reports, r := c.all(doctorApp)
	for name, one := range reports {
		if one.Verdict != "ok" {
			c.t.Errorf("%s: %+v", name, one)
		}
	}
	if r.code != 0 || r.errs != "" {
		c.t.Errorf("code %d, stderr %q", r.code, r.errs)
	}
}

// A healthy cluster is well in all eight respects; and of whatever it is that becomes wrong with one, the check fails that is for it, and no
// other: five of ten.
func TestTheDoctorFindsExactlyWhatIsWrongWithACluster(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{config: func(cfg doctorConfig) { cfg["quota-backend-bytes"] = 16 << 20 }})
	c.liveIn()
	root := c.client(doctorRoot)
	done := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("healthy", func(t *testing.T) {
		c := c.in(t)
		c.wellInAll()
		c.nothingOfTheDoctors()
	})
	t.Run("an over-wide role", func(t *testing.T) {
		c := c.in(t)
		c.grant(root, "app", "\x00", "\x00")
		c.failsAlone(doctorApp, "auth", "role app: it allows to read and write every key there is")
		done(root.RoleRevokePermission(doctorWithin(t), "app", "\x00", "\x00"))
	})
	t.Run("NOSPACE", func(t *testing.T) {
		c := c.in(t)
		for n, full := 0, false; !full; n++ {
			_, err := root.Put(doctorWithin(t), fmt.Sprintf("app/films/%d", n%40), strings.Repeat("x", 200<<10))
			if full = errors.Is(err, rpctypes.ErrNoSpace); !full {
				done(nil, err)
			}
		}
		c.failsAlone(doctorApp, "health", "alarm NOSPACE: the database has reached its quota", "persistence: warn", "latency: skipped")
		deleted, err := root.Delete(doctorWithin(t), "app/films/", clientv3.WithPrefix())
		done(nil, err)
		done(root.Compact(doctorWithin(t), deleted.Header.Revision, clientv3.WithCompactPhysical()))
		for _, member := range c.clients {
			done(root.Defragment(doctorWithin(t), member))
		}
		done(root.AlarmDisarm(doctorWithin(t), &clientv3.AlarmMember{}))
		c.liveIn()
	})
	t.Run("leases without keys", func(t *testing.T) {
		c := c.in(t)
		var leases []clientv3.LeaseID
		for range 120 {
			l, err := root.Grant(doctorWithin(t), 3600)
			done(l, err)
			leases = append(leases, l.ID)
		}
		c.failsAlone(doctorApp, "monitoring", "leases without keys")
		for _, l := range leases {
			done(root.Revoke(doctorWithin(t), l))
		}
	})
	t.Run("authentication off", func(t *testing.T) {
		c := c.in(t)
		done(root.AuthDisable(doctorWithin(t)))
		c.failsAlone("", "auth", "authentication: it is off")
		done(c.client("").AuthEnable(doctorWithin(t)))
	})
	t.Run("a dead member", func(t *testing.T) {
		c := c.in(t)
		c.kill(1)
		for ctx := doctorWithin(t); ; { // it may have been the leader
			if _, err := root.Put(ctx, "app/greeting", "good night"); err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		c.failsAlone(doctorApp, "health", "m1 ("+doctorHost(c.clients[1])+"): it does not answer", "tls: skipped", "topology: skipped", "persistence: skipped", "monitoring: skipped")
	})
}

// The other five are wrong from the beginning, each with a cluster of its own.
func TestTheDoctorFindsExactlyHowAClusterIsSetUpWrong(t *testing.T) {
	for name, wrong := range map[string]func(*testing.T){
		"plaintext": doctorPlaintext, "a certificate about to expire": doctorExpiring, "even voters": doctorEven, "no compaction": doctorUncompacted,
		"heartbeat against round trip": doctorFarApart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong(t)
		})
	}
}

func doctorPlaintext(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{plaintext: true})
	c.liveIn()
	c.failsAlone(doctorApp, "tls", "clients connect without TLS")
}

func doctorExpiring(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{memberCert: func(cert *x509.Certificate) { cert.NotAfter = time.Now().Add(75 * time.Hour) }})
	c.liveIn()
	c.failsAlone(doctorApp, "tls", "certificate of "+doctorHost(c.clients[0])+": it expires in 3 days")
}

func doctorEven(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{members: 4})
	c.liveIn()
	c.failsAlone(doctorApp, "topology", "voters: 4 are an even number: they survive the loss of 1, as 3 would")
}

func doctorUncompacted(t *testing.T) {
	c := newDoctorCluster(t, doctorSetup{config: func(cfg doctorConfig) { cfg["auto-compaction-retention"] = "0" }})
	cli, ctx := c.client(doctorApp), doctorWithin(t)
	var writers sync.WaitGroup
	for w := range 32 {
		writers.Go(func() {
			for range 40 {
				if _, err := cli.Put(ctx, fmt.Sprintf("app/%d", w), ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	c.failsAlone(doctorApp, "persistence", "compaction of history")
}

func doctorFarApart(t *testing.T) {
	// Each way between two members leads through a path of ours, and takes so long that a round trip outlasts a heartbeat.
	const way = 60 * time.Millisecond
	paths, keys := map[string]*doctorPath{}, doctorTokenKeys(t)
	c := newDoctorCluster(t, doctorSetup{config: func(cfg doctorConfig) {
		members := strings.Split(cfg["initial-cluster"].(string), ",")
		for i, m := range members {
			name, peer, _ := strings.Cut(m, "=https://")
			if paths[name] == nil {
				paths[name] = newDoctorPath(t, peer)
			}
			members[i] = name + "=https://" + paths[name].address()
			if name == cfg["name"] {
				cfg["initial-advertise-peer-urls"] = "https://" + paths[name].address()
			}
		}
		cfg["initial-cluster"] = strings.Join(members, ",")
		// A simple token that one member has given out is refused by the others until it has come as far, and that is not the point here.
		cfg["auth-token"] = keys
	}})
	c.liveIn()
	for _, p := range paths {
		p.delay.Store(int64(way))
	}
	c.slow = []string{"--dial-timeout", "4s"}
	const subject = "heartbeat and election timeout"
	c.failsAlone(doctorApp, "latency", subject)

	reports, _ := c.reports(doctorApp, "latency", append(c.slow, "--heartbeat-interval", "400ms", "--election-timeout", "4s")...)
	for _, f := range reports["latency"].Findings {
		if f.Subject == subject && f.Verdict != "ok" {
			t.Errorf("members with a longer heartbeat and election timeout: %s: %s", f.Verdict, f.Reason)
		}
	}
}

// doctorTokenKeys is the option of a member by which its tokens are signed, so that all know them at once.
func doctorTokenKeys(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"key": {Type: "EC PRIVATE KEY", Bytes: private}, "pub": {Type: "PUBLIC KEY", Bytes: public}} {
		if err := os.WriteFile(dir+"/"+name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "jwt,priv-key=" + dir + "/key,pub-key=" + dir + "/pub,sign-method=ES256,ttl=10m"
}
