//go:build linux || darwin

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

const (
	// partitionsVariable says how many partitions there are to be, instead of five.
	partitionsVariable = "ETCDKIT_LOCK_PARTITIONS"

	// lockStubborn is the first argument of this program as a command that does not heed SIGTERM.
	lockStubborn = "lock-test-stubborn"

	// atOnce is how many partitions there are side by side.
	atOnce = 5
)

// Before TestMain: that takes what runs below etcdkit for etcdkit.
var _ = lockStubbornMain()

// lockStubbornMain writes a key through a connection of its own, as fast as every few milliseconds, for as long as it lives. Its
// arguments are an endpoint, the key, and a pipe that it has open for just as long.
func lockStubbornMain() bool {
	if len(os.Args) < 2 || os.Args[1] != lockStubborn {
		return false
	}
	err := func() error {
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		alive, err := os.OpenFile(os.Args[4], os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer alive.Close()
		cli, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[2]}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		value := "alive"
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if _, err := cli.Put(context.Background(), os.Args[3], value+" "+os.Getenv("ETCDKIT_TOKEN")); err != nil {
				return err
			}
			select {
			case <-terminated:
				value = "terminated"
			case <-tick.C:
			}
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
	return true
}

// lockLink is a network path to etcd that can be interrupted, exactly: what has not passed when a switch returns does not pass.
type lockLink struct {
	listener net.Listener
	target   string

	mu    sync.RWMutex // held for reading by who passes something on
	holes [2]bool      // nothing passes to etcd, from etcd
	cut   bool
	conns []net.Conn
}

func newLockLink(t *testing.T, endpoint string) *lockLink {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lockLink{listener: listener, target: strings.TrimPrefix(endpoint, "http://")}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", l.target)
			if err != nil || !l.keep(near, far) {
				near.Close()
				continue
			}
			passing.Go(func() { l.pass(near, far, 0) })
			passing.Go(func() { l.pass(far, near, 1) })
		}
	})
	t.Cleanup(func() {
		l.close()
		passing.Wait()
	})
	return l
}

func (l *lockLink) endpoint() string { return "http://" + l.listener.Addr().String() }

// keep takes note of connections; none are kept after a cut.
func (l *lockLink) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conns...)
	if l.cut {
		for _, c := range conns {
			c.Close()
		}
	}
	return !l.cut
}

// pass passes on what comes, unless there is a hole.
func (l *lockLink) pass(from, to net.Conn, way int) {
	defer from.Close()
	defer to.Close()
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		l.mu.RLock()
		if !l.holes[way] {
			_, err = to.Write(buffer[:n])
		}
		l.mu.RUnlock()
		if err != nil {
			return
		}
	}
}

// close cuts all connections, and lets none be made.
func (l *lockLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.listener.Close()
	for _, c := range l.conns {
		c.Close()
	}
}

// interrupt interrupts the path in one of several ways, and returns its name.
func (l *lockLink) interrupt(n int) string {
	if n%4 == 0 {
		l.close()
		return "cut"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holes = [3][2]bool{{true, true}, {true, false}, {false, true}}[n%4-1]
	return []string{"black hole", "requests lost", "answers lost"}[n%4-1]
}

// partition is one holder that is cut off while another waits.
type partition struct {
	t      *testing.T
	n      int
	etcd   string
	name   string
	key    string // what the holder's command writes
	link   *lockLink
	holder *run
	waiter *run
	how    string
	cut    int64          // the revision at which the holder was cut off
	died   chan time.Time // when the holder's command was dead
}

// newPartition starts the two, and cuts the one off that holds.
func newPartition(t *testing.T, cli *clientv3.Client, etcd, root string, n int) *partition {
	t.Helper()
	p := &partition{t: t, n: n, etcd: etcd, name: fmt.Sprintf("%s/%d/lock", root, n), key: fmt.Sprintf("%s/%d/alive", root, n), died: make(chan time.Time, 1)}
	p.link = newLockLink(t, etcd)
	pipe := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		f, err := os.Open(pipe)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			p.died <- time.Now()
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}()
	p.holder = launch(t, "lock", p.name, "--ttl", "2s", "--endpoints", p.link.endpoint(), "--", os.Args[0], lockStubborn, etcd, p.key, pipe)
	lockWaitKeys(t, cli, p.key, 1)
	p.waiter = launch(t, "lock", p.name, "-q", "--ttl", "2s", "--endpoints", etcd, "--", "sh", "-c", "echo token $ETCDKIT_TOKEN")
	lockWaitKeys(t, cli, p.name+"/", 2)
	return p
}

// separate cuts the holder off at some moment between two renewals.
func (p *partition) separate(cli *clientv3.Client) {
	p.t.Helper()
	<-time.After(rand.N(700 * time.Millisecond))
	p.how = p.link.interrupt(p.n)
	now, err := cli.Get(p.t.Context(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cut = now.Header.GetRevision()
}

// check waits for the other one to hold, and returns how long before the first one's command was dead.
func (p *partition) check(cli *clientv3.Client) time.Duration {
	p.t.Helper()
	token, err := strconv.ParseInt(p.waiter.expect("token "), 10, 64)
	held := time.Now()
	if err != nil {
		p.t.Fatal(err)
	}
	var died time.Time
	select {
	case died = <-p.died:
	case <-time.After(soon):
		p.t.Fatalf("%d (%s): the command of the first lives", p.n, p.how)
	}
	if died.After(held) {
		p.t.Errorf("%d (%s): the command of the first was dead %v after the second held", p.n, p.how, died.Sub(held))
	}
	if out, code := p.waiter.wait(); code != 0 {
		p.t.Errorf("%d (%s): the second ended with %d: %s%s", p.n, p.how, code, out, &p.waiter.errs)
	}
	if _, code := p.holder.wait(); code != exit.Lost || !strings.Contains(p.holder.errs.String(), "lost while the command ran; it was stopped") {
		p.t.Errorf("%d (%s): the first ended with %d: %s", p.n, p.how, code, &p.holder.errs)
	}
	p.history(cli, token)
	return held.Sub(died)
}

// history checks with what etcd has seen: the first wrote nothing after its key was gone, and was told to end before it was killed.
func (p *partition) history(cli *clientv3.Client, second int64) {
	p.t.Helper()
	prefix := strings.TrimSuffix(p.key, "alive")
	now, err := cli.Get(p.t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		p.t.Fatal(err)
	}
	var last, gone, terminated, first int64
	ctx, cancel := context.WithTimeout(p.t.Context(), soon)
	defer cancel()
	watch := cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithPrevKV())
	for upTo := int64(0); upTo < now.Header.GetRevision(); {
		// The waiter's key is deleted last.
		resp, ok := <-watch
		if !ok || resp.Err() != nil {
			p.t.Fatalf("%d: the history cannot be read: %v", p.n, resp.Err())
		}
		for _, e := range resp.Events {
			rev := e.Kv.ModRevision
			switch {
			case string(e.Kv.Key) == p.key:
				last = rev
				if terminated == 0 && strings.HasPrefix(string(e.Kv.Value), "terminated") {
					terminated = rev
				}
			case e.Type == mvccpb.DELETE && e.PrevKv.GetCreateRevision() == first:
				gone = rev
			case e.Type == mvccpb.DELETE && e.PrevKv.GetCreateRevision() == second:
				upTo = now.Header.GetRevision()
			case first == 0:
				first = rev
			}
		}
	}
	switch {
	case gone == 0 || last >= gone:
		p.t.Errorf("%d (%s): its command wrote at revision %d, and its key was gone at %d", p.n, p.how, last, gone)
	case last <= p.cut:
		p.t.Errorf("%d (%s): its command was dead when it was cut off, at revision %d", p.n, p.how, p.cut)
	case terminated == 0:
		p.t.Errorf("%d (%s): its command did not get SIGTERM before it was killed", p.n, p.how)
	}
}

// lockWaitKeys waits until there are n keys below a prefix.
func lockWaitKeys(t *testing.T, cli *clientv3.Client, prefix string, n int64) *clientv3.GetResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	changes := cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for {
		if resp, ok := <-changes; !ok || resp.Err() != nil {
			t.Fatalf("there are not %d keys below %s within %v", n, prefix, soon)
		}
		all, err := cli.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		if all.Count == n {
			return all
		}
	}
}

// A command that does not heed SIGTERM is dead before anybody else can hold the lock, however its etcdkit was cut off.
func TestACommandThatIsCutOffIsDeadBeforeTheLockIsAnothers(t *testing.T) {
	t.Parallel()
	count := atOnce
	if given := os.Getenv(partitionsVariable); given != "" {
		var err error
		if count, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	etcd := ownEtcd(t)
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	least := time.Hour
	for n := 0; n < count; n += atOnce {
		var some []*partition
		for i := n; i < min(n+atOnce, count); i++ {
			some = append(some, newPartition(t, cli, etcd, "/test", i))
		}
		for _, p := range some {
			p.separate(cli)
		}
		for _, p := range some {
			least = min(least, p.check(cli))
		}
	}
	t.Logf("%d partitions; the command was dead at least %v before another held", count, least)
}
