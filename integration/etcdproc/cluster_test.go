package etcdproc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 20 * time.Second

func TestMain(m *testing.M) {
	registerChildren()
	if os.Getenv("ETCDPROC_TEST_NO_MAIN") == "" {
		etcdproc.Main()
	}
	goleak.VerifyTestMain(m)
}

// fast is a cluster for tests that say nothing about production's times.
func fast(members int) etcdproc.Config {
	return etcdproc.Config{
		Members: members, NoFsync: true, Heartbeat: 20 * time.Millisecond, Election: 200 * time.Millisecond,
	}
}

func start(t *testing.T, cfg etcdproc.Config) *etcdproc.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	c, err := etcdproc.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *etcdproc.Cluster) {
	t.Helper()
	if err := c.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func client(t *testing.T, c *etcdproc.Cluster, members ...int) *clientv3.Client {
	t.Helper()
	var cfg clientv3.Config
	for _, i := range members {
		cfg.Endpoints = append(cfg.Endpoints, c.Endpoint(i))
	}
	cli, err := c.Client(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

func put(t *testing.T, cli *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := cli.Put(within(t, soon), key, value); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, cli *clientv3.Client, key, want string) {
	t.Helper()
	resp, err := cli.Get(within(t, soon), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want {
		t.Fatalf("%s is %v, want %q", key, resp.Kvs, want)
	}
}

func leader(t *testing.T, c *etcdproc.Cluster) int {
	t.Helper()
	i, err := c.Leader(within(t, soon))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestThreeMembersAreKilledFrozenAndRestarted(t *testing.T) {
	c := start(t, fast(3))
	put(t, client(t, c), "a", "1")

	killed := leader(t, c)
	if err := c.Kill(killed); err != nil {
		t.Fatal(err)
	}
	var exit *etcdproc.ExitError
	if err := c.Process(killed).Err(); !errors.As(err, &exit) || exit.Reason != "signal: killed" {
		t.Errorf("a killed member: %v", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(c.Endpoint(killed), "http://")); err == nil {
		conn.Close()
		t.Error("a killed member accepts connections")
	}
	second := leader(t, c)
	if second == killed {
		t.Fatal("a dead member leads")
	}
	put(t, client(t, c, second), "a", "2")
	if err := c.Restart(within(t, soon), killed); err != nil {
		t.Fatal(err)
	}
	wantValue(t, client(t, c, killed), "a", "2")

	// A frozen leader answers nothing, and its kernel still accepts connections for it.
	frozen := leader(t, c)
	if err := c.Freeze(frozen); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client(t, c, frozen).Get(ctx, "a", clientv3.WithSerializable()); err == nil {
		t.Error("a frozen member answered")
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.Endpoint(frozen), "http://"))
	if err != nil {
		t.Errorf("a connection to a frozen member: %v", err)
	} else {
		conn.Close()
	}
	if next := leader(t, c); next == frozen {
		t.Error("a frozen member leads")
	}
	if err := c.Thaw(frozen); err != nil {
		t.Fatal(err)
	}
	wantValue(t, client(t, c, frozen), "a", "2")

	// In order, with a watch open that never ends.
	watched := leader(t, c)
	changes := client(t, c, watched).Watch(t.Context(), "a", clientv3.WithCreatedNotify())
	<-changes
	begin := time.Now()
	if err := c.Terminate(within(t, soon), watched); err != nil {
		t.Errorf("Terminate: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Terminate took %v", took)
	}

	// All at once, one of them frozen.
	if err := c.Restart(within(t, soon)); err != nil {
		t.Fatal(err)
	}
	if err := c.Freeze(0); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	stop(t, c)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Stop took %v", took)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	stop(t, c)
	if err := c.Restart(t.Context()); err == nil {
		t.Error("a stopped cluster was restarted")
	}
}

func TestADirectoryIsTakenUpAgainOnTheSamePortsOrOnOthers(t *testing.T) {
	cfg := fast(3)
	cfg.Dir = filepath.Join(t.TempDir(), "etcd")
	first := start(t, cfg)
	put(t, client(t, first), "a", "1")

	other, err := etcdproc.Start(t.Context(), cfg)
	if err == nil {
		stop(t, other)
	}
	if err == nil || !strings.Contains(err.Error(), "another cluster runs in "+cfg.Dir) {
		t.Errorf("a second cluster in the same directory: %v", err)
	}
	stop(t, first)

	cfg.Members = 0 // whatever is there
	second := start(t, cfg)
	if got, want := fmt.Sprint(second.Endpoints()), fmt.Sprint(first.Endpoints()); got != want {
		t.Errorf("endpoints %s, were %s", got, want)
	}
	wantValue(t, client(t, second), "a", "1")
	put(t, client(t, second), "a", "2")
	stop(t, second)

	// Somebody else listens on a port of theirs.
	l, err := net.Listen("tcp", strings.TrimPrefix(first.Endpoint(1), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	third := start(t, cfg)
	if got := third.Endpoint(1); got == first.Endpoint(1) {
		t.Errorf("endpoint %s is taken", got)
	}
	wantValue(t, client(t, third), "a", "2")
	for i := range third.Size() {
		put(t, client(t, third, i), "a", strconv.Itoa(i))
	}
	list, err := client(t, third).MemberList(within(t, soon))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Members {
		if strings.Contains(fmt.Sprint(first.Endpoints()), m.ClientURLs[0]) {
			t.Errorf("member %v still advertises its old endpoint", m)
		}
	}
	// Leaders come and go there, so members must have found each other by their new ports.
	old := leader(t, third)
	if err := third.Kill(old); err != nil {
		t.Fatal(err)
	}
	if next := leader(t, third); next == old {
		t.Error("a dead member leads")
	}
	stop(t, third)

	cfg.Members = 1
	_, err = etcdproc.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "holds a cluster of 3 members, not of 1") {
		t.Errorf("another size: %v", err)
	}
}

func TestStartNamesTheMemberAndTheReason(t *testing.T) {
	cfg := fast(1)
	cfg.Dir = t.TempDir()
	cfg.Election = 30 * time.Millisecond // etcd wants five heartbeats
	_, err := etcdproc.Start(within(t, soon), cfg)
	if err == nil || !strings.Contains(err.Error(), "member m0") || !strings.Contains(err.Error(), "election") {
		t.Errorf("a member that cannot start: %v", err)
	}
	// The failure has left nothing that the next start trips over.
	cfg.Election = 200 * time.Millisecond
	put(t, client(t, start(t, cfg)), "a", "1")

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "m0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := etcdproc.Start(t.Context(), etcdproc.Config{Dir: dir}); err == nil {
		t.Error("a cluster was started over somebody's data")
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	if _, err := etcdproc.Start(ctx, fast(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestPortsAreNotGivenTwice(t *testing.T) {
	p, err := etcdproc.ReservePorts()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcdproc.ReservePortsAt(p.Base()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a block that is held: %v", err)
	}
	taken := map[int]bool{}
	for port, ok := p.Take(); ok; port, ok = p.Take() {
		if taken[port] || port <= p.Base() {
			t.Errorf("port %d", port)
		}
		taken[port] = true
	}
	if len(taken) != 15 {
		t.Errorf("%d ports", len(taken))
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.Base()+3))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := etcdproc.ReservePortsAt(p.Base()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a block with a port that is not free: %v", err)
	}
	if _, err := etcdproc.ReservePortsAt(p.Base() + 1); err == nil {
		t.Error("a base that is none")
	}
}

func TestMembersServeOnThePortsTheyAreToldOrSayWhichIsTaken(t *testing.T) {
	block, err := etcdproc.ReservePorts()
	if err != nil {
		t.Fatal(err)
	}
	port := block.Base() + 1
	t.Cleanup(func() { _ = block.Close() })

	cluster, err := etcdproc.Start(t.Context(), etcdproc.Config{Port: port, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	if want := fmt.Sprintf("http://127.0.0.1:%d", port); cluster.Endpoint(0) != want {
		t.Errorf("the member serves on %s, not on %s", cluster.Endpoint(0), want)
	}

	_, err = etcdproc.Start(t.Context(), etcdproc.Config{Port: port - 1, NoFsync: true})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), strconv.Itoa(port-1)) {
		t.Errorf("a port that is taken: %v", err)
	}
}
