package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// seeShell is a shell of one of the commands that show what there is.
func seeShell(t *testing.T, endpoint, kind string) *shell {
	s := shellOn(t, endpoint)
	s.kind = kind
	return s
}

// as is the shell of another command on the same keys.
func (s *shell) as(kind string) *shell {
	other := *s
	other.kind = kind
	return &other
}

// seeSession opens a session that ends with the test.
func (s *shell) seeSession(ttl time.Duration) *session.Session {
	s.t.Helper()
	sess, err := session.Open(s.t.Context(), s.client(), &session.Options{TTL: ttl})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = sess.Close(context.Background()) })
	return sess
}

// seeLease grants a lease that nobody renews.
func (s *shell) seeLease(ttl int64) clientv3.LeaseID {
	s.t.Helper()
	resp, err := s.client().Grant(s.t.Context(), ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.ID
}

// seePut puts a key on a lease.
func (s *shell) seePut(key, value string, lease clientv3.LeaseID) {
	s.t.Helper()
	if _, err := s.client().Put(s.t.Context(), s.rootedText(key), value, clientv3.WithLease(lease)); err != nil {
		s.t.Fatal(err)
	}
}

// seeMust fails the test on an error.
func seeMust[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// seeWorld puts one line of each kind, and things that look like lines.
func seeWorld(s *shell) (a, b *session.Session) {
	s.t.Helper()
	ctx := s.t.Context()
	held := seeMust[*lock.Held](s.t)
	a, b = s.seeSession(20*time.Second), s.seeSession(10*time.Second)
	held(lock.NewMutex(a, s.root+"/orders").Lock(ctx))
	for _, sess := range []*session.Session{b, a} { // two wait
		n := s.waiters("./orders/")
		go func() { _, _ = lock.NewMutex(sess, s.root+"/orders").Lock(ctx) }()
		s.waitFor("./orders/", n+1)
	}
	held(lock.NewRWMutex(a, s.root+"/prices").Reader().Lock(ctx))
	held(lock.NewRWMutex(b, s.root+"/prices").Reader().Lock(ctx))
	pool := lock.NewSemaphore(a, s.root+"/pool", 3)
	first := held(pool.Acquire(ctx, 2))
	if _, err := first.Slot(ctx); err != nil {
		s.t.Fatal(err)
	}
	seeMust[*election.Term](s.t)(election.Campaign(ctx, a, s.root+"/leader", "node-7:8080"))
	return a, b
}

func (s *shell) waiters(prefix string) int {
	s.t.Helper()
	resp, err := s.client().Get(s.t.Context(), s.rootedText(prefix), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		s.t.Fatal(err)
	}
	return int(resp.Count)
}

// waitFor waits for so many keys below a prefix.
func (s *shell) waitFor(prefix string, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	for range s.client().Watch(ctx, s.rootedText(prefix), clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		if s.waiters(prefix) == n {
			return
		}
	}
	s.t.Fatalf("%d keys below %s, and not %d", s.waiters(prefix), prefix, n)
}

func TestLinesAreToldByTheirKeysAndListed(t *testing.T) {
	t.Parallel()
	s := seeShell(t, sharedEtcd(t), "ls")
	if r := s.run("./"); r.code != 0 || r.out != "" || r.errs != "nobody holds or waits for anything\n" {
		t.Errorf("%+v", r)
	}
	a, _ := seeWorld(s)
	// What looks like a line, and is none: an instance whose ID is its lease, a worker, a key on another lease than it names, keys without one.
	lease := s.seeLease(60)
	hex := fmt.Sprintf("%x", int64(lease))
	s.seePut("./services/mail/"+hex, `{"Addr":"10.0.0.7:80"}`, lease)
	s.seePut("./other/abc123", "", lease)
	s.seePut("./named/"+hex+"-x", "", lease)
	s.put("./bare/"+hex, "")
	// And what is one: another client's lock.
	other, err := concurrency.NewSession(s.client(), concurrency.WithLease(lease))
	if err != nil {
		t.Fatal(err)
	}
	if err := concurrency.NewMutex(other, s.root+"/batch").Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	me := fmt.Sprintf("etcdkit.test %s %d", host, os.Getpid())
	out := s.prints([]string{"./"}, "NAME ", "KIND ", "HOLDING  WAITING  TOKEN  CAME ", "FIRST\n",
		"./batch ", "mutex ", " 1 ", " 0 ", "etcdctl/concurrency\n", "./leader ", "election ", "node-7:8080\n",
		"./orders ", "mutex ", " 1 ", " 2 ", me+"\n", "./pool ", "semaphore 3 ", me+"\n", "./prices ", "readers ", " 2 ", " 0 ", me)
	if n := strings.Count(out, "\n"); n != 6 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	all := s.objects("./or")
	if len(all) != 1 || all[0]["name"] != s.root+"/orders" || all[0]["kind"] != "mutex" || all[0]["holders"] != 1.0 || all[0]["waiting"] != 2.0 {
		t.Fatalf("%v", all)
	}
	if first := all[0]["first"].(map[string]any); first["lease"] != fmt.Sprintf("%x", int64(a.Lease())) || first["pid"] != float64(os.Getpid()) || first["holds"] != true {
		t.Errorf("%v", first)
	}
}

func TestALineIsInspected(t *testing.T) {
	t.Parallel()
	s := seeShell(t, sharedEtcd(t), "inspect")
	s.fails(1, "./orders: nobody holds it, and nobody waits", "./orders")
	a, b := seeWorld(s)
	leaseA, leaseB := fmt.Sprintf("%x", int64(a.Lease())), fmt.Sprintf("%x", int64(b.Lease()))
	host, _ := os.Hostname()
	pid := fmt.Sprint(os.Getpid())
	s.prints([]string{"./orders"}, "./orders: mutex; 1 holds it, 2 wait\n", "STATE ", "TOKEN  PROGRAM ", "HOST ", "PID ", "CAME ", "LEASE ", "LEFT\n",
		"holds ", "etcdkit.test  "+host, pid, leaseA, " of 20s\n", "waits 1 ", leaseB, " of 10s\n", "waits 2 ", leaseA)
	o := s.object("./orders")
	holders, waiting := o["holders"].([]any), o["waiting"].([]any)
	if o["kind"] != "mutex" || len(holders) != 1 || len(waiting) != 2 {
		t.Fatalf("%v", o)
	}
	if p := waiting[0].(map[string]any); p["lease"] != leaseB || p["grantedSeconds"] != 10.0 || p["leftSeconds"].(float64) < 5 || p["holds"] != false || p["takes"] != "all" {
		t.Errorf("%v", p)
	}
	s.prints([]string{"./pool"}, "./pool: semaphore, 2 of 3 permits taken; 1 holds it\n", "TAKES   SLOT  LEASE", "holds ", "2 of 3 ", " 0  "+leaseA)
	s.prints([]string{"./prices"}, "./prices: readers; 2 hold it\n", "TAKES ", "reads ", leaseA, "reads ", leaseB)
	s.prints([]string{"./leader"}, "./leader: election; 1 leads\n", "STATE  TOKEN  LEASE ", "LEFT ", "VALUE\n", "leads ", leaseA, "node-7:8080\n")

	// Others in the same line, one that has ended, and a key that holds everybody up.
	lease := s.seeLease(60)
	s.seePut("./mixed/"+fmt.Sprintf("%x", int64(lease)), "", lease)
	s.put("./mixed/junk\x1b[31m", "\x1b[31m")
	out := s.prints([]string{"./mixed"}, "./mixed: mutex; 1 holds it, 1 waits\n", "holds ", "etcdctl/concurrency ", "waits 1 ", "a key without a lease, which stays until it is deleted")
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	if p := s.object("./mixed")["holders"].([]any)[0].(map[string]any); p["otherClient"] != true || p["who"] != nil {
		t.Errorf("%v", p)
	}
}

func TestALineIsWatchedChangeByChange(t *testing.T) {
	t.Parallel()
	s := seeShell(t, sharedEtcd(t), "inspect")
	watched := launch(t, append([]string{"inspect", "--endpoints", s.endpoint, "--watch"}, s.rooted([]string{"./orders"})...)...)
	if got := watched.expect(""); !strings.HasSuffix(got, "  free") {
		t.Fatalf("%q", got)
	}
	list := launch(t, append([]string{"ls", "--endpoints", s.endpoint, "-w", "-o", "json"}, s.rooted([]string{"./or"})...)...)
	sess := s.seeSession(10 * time.Second)
	m := lock.NewMutex(sess, s.root+"/orders")
	held, err := m.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	says := func(words ...string) {
		t.Helper()
		s.holds(watched.expect(""), words...)
	}
	token := fmt.Sprintf("token %d", held.Guard().Token)
	says("holds   "+token, "etcdkit.test")
	if o := objectsOf(t, list.expect(""))[0]; o["name"] != s.root+"/orders" || o["holders"] != 1.0 || o["time"] == nil {
		t.Errorf("%v", o)
	}
	next := make(chan *lock.Held, 1)
	go func() {
		second, _ := m.Lock(context.Background())
		next <- second
	}()
	says("waits   token")
	if err := held.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := <-next
	says("gone    " + token)
	says(fmt.Sprintf("holds   token %d", second.Guard().Token))
	if err := second.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	says("gone")
	says("free")
	for {
		o := objectsOf(t, list.expect(""))[0]
		if o["holders"] == 0.0 && o["kind"] == nil {
			break
		}
	}
	for _, r := range []*run{watched, list} {
		r.signal(syscall.SIGINT)
		if _, code := r.wait(); code != 0 || r.errs.Len() > 0 {
			t.Errorf("code %d, stderr %q", code, &r.errs)
		}
	}
}

func TestLeasesAreListedWithTheirOwners(t *testing.T) {
	t.Parallel()
	s := seeShell(t, ownEtcd(t), "sessions")
	if r := s.run("ls"); r.code != 0 || r.out != "" || r.errs != "no leases\n" {
		t.Errorf("%+v", r)
	}
	a, b := seeWorld(s)
	hex := func(id clientv3.LeaseID) string { return fmt.Sprintf("%x", int64(id)) }
	bare, junk := s.seeLease(77), s.seeLease(88)
	s.seePut("./junk", "?", junk)
	announced := seeMust[*registry.Registration](t)(registry.Register(t.Context(), s.client(), registry.Instance{Service: "mail", ID: "m-1", Addr: "10.0.0.7:80"}, nil))
	t.Cleanup(func() { _ = announced.Close(context.Background()) })
	host, _ := os.Hostname()
	me := fmt.Sprintf("etcdkit.test %s %d", host, os.Getpid())
	out := s.prints([]string{"ls"}, "LEASE ", "OWNER ", "LEFT ", "KEYS  TOLD BY\n")
	for _, line := range []string{
		hex(a.Lease()) + "  " + me, hex(b.Lease()) + "  " + me, hex(bare), hex(junk), "mail m-1 10.0.0.7:80",
	} {
		s.holds(out, line)
	}
	byLease := map[any]map[string]any{}
	for _, o := range s.objects("ls") {
		byLease[o["lease"]] = o
	}
	if o := byLease[hex(a.Lease())]; o["owner"] != me || o["keys"] != 6.0 || o["grantedSeconds"] != 20.0 { // a lock and a place behind it, reading, permits with a slot, a candidacy
		t.Errorf("%v", o)
	}
	if o := byLease[hex(bare)]; o["owner"] != nil || o["keys"] != 0.0 || o["grantedSeconds"] != 77.0 {
		t.Errorf("%v", o)
	}
	if all := s.objects("ls", "./junk"); len(all) != 1 || all[0]["lease"] != hex(junk) || all[0]["owner"] != nil {
		t.Errorf("%v", all)
	}

	s.prints([]string{"show", hex(a.Lease())}, "lease "+hex(a.Lease())+" of "+me+", ", " of 20s left, 6 keys\n", "KIND ", "WHAT IT DOES ", "KEY\n",
		"election ", "leads election ./leader ", "lock ", "holds lock ./orders; 2 behind it", "lock ", "waits for lock ./orders, behind 2 ",
		"slot ", "slot 0 of ./pool", "holds lock ./pool", "holds lock ./prices")
	o := s.object("show", "0x"+hex(a.Lease()))
	if list := o["list"].([]any); len(list) != 6 || list[0].(map[string]any)["kind"] != "election" || list[0].(map[string]any)["name"] != s.root+"/leader" {
		t.Errorf("%v", o)
	}

	s.fails(1, "there is no terminal to ask on, and nothing was changed: --yes", "revoke", hex(junk))
	r := s.run("revoke", hex(a.Lease()))
	s.holds(r.errs, "lease "+hex(a.Lease())+" of "+me, "  leads election ./leader  (", "  holds lock ./orders; 2 behind it  (")
	s.fails(1, "lease 123: unknown: it has ended, or never was", "revoke", hex(junk), "123", "--yes")
	s.prints([]string{"revoke", hex(junk), hex(bare), "--yes"}, hex(junk)+": revoked, with 1 key\n", hex(bare)+": revoked, with 0 keys\n")
	s.fails(1, "lease "+hex(junk)+": unknown", "show", hex(junk))
	if got := s.object("revoke", hex(a.Lease()), "-y", "-o", "json"); got["done"] != "revoked" || got["keys"] != 6.0 {
		t.Errorf("%v", got)
	}
	<-a.Context().Done()
	s.as("inspect").prints([]string{"./orders"}, "1 holds it\n", "holds ", hex(b.Lease()))
}

func TestWorkersAndReportsOwnTheirLeases(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", "rate: 1")
	s.instance("./limits", "mail-7", nil)
	ctx, cancel := context.WithCancel(t.Context())
	q := queue.New(s.client(), s.root+"/jobs", &queue.Options[string]{})
	done := make(chan error, 1)
	go func() { done <- q.Work(ctx, nil, func(context.Context, *queue.Delivery[string]) error { return nil }) }()
	t.Cleanup(func() { cancel(); <-done })
	s.waitFor(queue.Root+s.root+"/jobs//line/workers/", 1)
	sessions := s.as("sessions")
	if r := s.as("ls").run("etcdkit/queue/" + s.root); r.errs != "nobody holds or waits for anything\n" {
		t.Errorf("%+v", r)
	}
	if all := sessions.objects("ls", "etcdkit/queue/"+s.root); len(all) != 1 || all[0]["what"] != "works on queue "+s.root+"/jobs" ||
		!strings.HasSuffix(all[0]["owner"].(string), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v", all)
	}
	s.waitFor("etcdkit/config/"+s.root+"/limits//report/", 1)
	if all := sessions.objects("ls", "etcdkit/config/"+s.root); len(all) != 1 || all[0]["owner"] != "mail-7" ||
		all[0]["what"] != "reports what mail-7 runs of "+s.root+"/limits" {
		t.Errorf("%v", all)
	}
}

// A user who may not see all is told so in a line, and sees what may be seen.
func TestWhatMayNotBeSeenIsTold(t *testing.T) {
	t.Parallel()
	s := seeShell(t, protected(t, "/test/"), "sessions")
	cli := seeMust[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, Username: "root", Password: "sesame"}))
	t.Cleanup(func() { cli.Close() })
	lease := seeMust[*clientv3.LeaseGrantResponse](t)(cli.Grant(t.Context(), 60)).ID
	hex := fmt.Sprintf("%x", int64(lease))
	put := seeMust[*clientv3.PutResponse](t)
	put(cli.Put(t.Context(), s.root+"/a/"+hex, "", clientv3.WithLease(lease)))
	reader := []string{"--user", "reader:letmein"}
	with := func(args ...string) []string { return append(args, reader...) }
	s.prints(with("ls"), hex, "etcdctl/concurrency ", "1  lock ./a\n")
	put(cli.Put(t.Context(), "/other/"+hex, "", clientv3.WithLease(lease)))
	s.fails(1, "permission denied: etcd lists leases only for who may read every key that has one; name a PREFIX", with("ls")...)
	s.prints(with("ls", "./"), hex, " of 60s ", "some of its keys may not be read\n")
	if o := s.objects(with("ls", "./")...)[0]; o["problem"] != "some of its keys may not be read" || o["keys"] != nil || o["leftSeconds"] == nil {
		t.Errorf("%v", o)
	}
	s.prints(with("show", hex), "s left; some of its keys may not be read\n")
	s.fails(1, "permission denied", with("revoke", hex, "--yes")...)
	s.as("ls").prints(with("./"), "./a ")
	s.as("ls").fails(1, "permission denied: name a PREFIX below which all may be read", reader...)
	s.as("ls").fails(1, "permission denied: not all keys that begin with /other may be read", with("/other")...)
	s.as("ls").fails(1, "permission denied", with("/other", "--watch")...)
	s.as("inspect").prints(with("./a"), "1 holds it\n", " of 60s\n")
	s.as("inspect").fails(1, "permission denied", with("/other")...)
	s.as("inspect").fails(1, "permission denied", with("/other", "-w")...)
	s.as("inspect").fails(1, "invalid user ID or password", "./a", "--user", "reader:wrong-one").noSecret("wrong-one")
}

func TestABadCommandLineOfLsInspectAndSessionsIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := seeShell(t, "127.0.0.1:1", "ls") // nothing is sent
	for words, args := range map[string][]string{
		`ls: unexpected argument "b"`:                          {"ls", "a", "b"},
		"ls: PREFIX is missing: --watch":                       {"ls", "--watch"},
		"ls: -o yaml: it must be table or json":                {"ls", "-o", "yaml"},
		"inspect: NAME is missing":                             {"inspect"},
		`inspect: unexpected argument "b"`:                     {"inspect", "a", "b"},
		"inspect: unknown flag: --bogus":                       {"inspect", "a", "--bogus"},
		`sessions: unknown command "bogus"`:                    {"sessions", "bogus"},
		"sessions show: LEASE is missing":                      {"sessions", "show"},
		`show: lease "xyz": it must be a number in hexadeci`:   {"sessions", "show", "xyz"},
		`revoke: lease "-0": it must be a number in hexadecim`: {"sessions", "revoke", "--", "-0"},
		"sessions revoke: LEASE is missing":                    {"sessions", "revoke"},
	} {
		s.as(args[0]).fails(2, words, args[1:]...)
	}
	for _, args := range [][]string{{"ls"}, {"ls", "a", "-w"}, {"inspect", "a"}, {"inspect", "a", "-w"}, {"sessions", "ls"}, {"sessions", "show", "7b"}, {"sessions", "revoke", "7b", "-y"}} {
		s.as(args[0]).fails(1, "no member answers: 127.0.0.1:1: ", append(args[1:], "--dial-timeout", "300ms")...)
	}
	live := seeShell(t, sharedEtcd(t), "inspect")
	live.fails(1, `lock name "" refused: it is empty`, "")
	for _, kind := range []string{"ls", "inspect", "sessions"} {
		if out, errs, code := do(t, kind, "--help"); code != 0 || errs != "" || !strings.Contains(out, "Exit codes:") || !strings.Contains(out, "  130  interrupted") {
			t.Errorf("%s: code %d, %q, %q", kind, code, out, errs)
		}
	}
}
