package etcdtest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 10 * time.Second

// tcpServer calls serve for each connection until the test ends.
func tcpServer(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func dialLink(t *testing.T, l *etcdtest.Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(l.Endpoint(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// roundTrip sends one message through an echo server and waits for it.
func roundTrip(t *testing.T, c net.Conn, message string) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.WriteString(c, message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != message {
		t.Fatalf("got %q back for %q", got, message)
	}
	return time.Since(start)
}

func TestLinkCutResetsAndRefusesUntilHeal(t *testing.T) {
	t.Parallel()
	l := etcdtest.NewLink(t, tcpServer(t, echo))
	c := dialLink(t, l)
	roundTrip(t, c, "before")
	l.Cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection: %v, want a reset", err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(l.Endpoint(), "http://")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want refused", err)
	}
	l.Heal()
	roundTrip(t, dialLink(t, l), "after")
	if got := l.Accepted(); got != 2 {
		t.Errorf("accepted %d connections, want 2", got)
	}
}

func TestLinkDropResetsOpenConnectionsOnly(t *testing.T) {
	t.Parallel()
	l := etcdtest.NewLink(t, tcpServer(t, echo))
	c := dialLink(t, l)
	roundTrip(t, c, "before")
	l.Drop()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection: %v, want a reset", err)
	}
	roundTrip(t, dialLink(t, l), "after")
}

// A stream of numbers runs through the link while black holes come and go: what the server has received must stand
// still during each, and in the end nothing may be missing, doubled or out of order.
func TestLinkBlackholeIsExactAndHoldsWhatIsSent(t *testing.T) {
	t.Parallel()
	const rounds = 20
	var received atomic.Int64
	broken := make(chan string, 1)
	l := etcdtest.NewLink(t, tcpServer(t, func(c net.Conn) {
		var number [8]byte
		r := bufio.NewReader(c)
		for want := uint64(0); ; want++ {
			if _, err := io.ReadFull(r, number[:]); err != nil {
				return
			}
			if got := binary.BigEndian.Uint64(number[:]); got != want {
				broken <- "out of order"
				return
			}
			received.Add(8)
		}
	}))
	c := dialLink(t, l)
	var sent atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var number [8]byte
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			binary.BigEndian.PutUint64(number[:], n)
			if _, err := c.Write(number[:]); err != nil {
				return
			}
			sent.Add(8)
		}
	}()
	for range rounds {
		l.Blackhole(etcdtest.Requests)
		passed := l.Passed(etcdtest.Requests)
		at := sent.Load()
		// The server empties what the kernel already has for it ...
		etcdtest.Eventually(t, soon, "the server has all that passed", func(context.Context) error {
			if received.Load() < passed-passed%8 {
				return errors.New("not yet")
			}
			return nil
		})
		// ... the client goes on sending, and nothing more comes.
		etcdtest.Nothing(t, 5*time.Millisecond, "the stream", broken)
		if now := l.Passed(etcdtest.Requests); now != passed {
			t.Fatalf("%d bytes passed through a black hole", now-passed)
		}
		if sent.Load() == at && at < 1<<20 {
			t.Log("the sender did not get to send meanwhile")
		}
		l.Heal()
		etcdtest.Eventually(t, soon, "the stream goes on", func(context.Context) error {
			if l.Passed(etcdtest.Requests) == passed {
				return errors.New("not yet")
			}
			return nil
		})
	}
	close(stop)
	<-stopped
	etcdtest.Eventually(t, soon, "all arrives", func(context.Context) error {
		if received.Load() != sent.Load() {
			return errors.New("not yet")
		}
		return nil
	})
	etcdtest.Nothing(t, 0, "the stream", broken)
}

func TestLinkBlackholeDoesNotWaitForAReceiverThatDoesNotRead(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	l := etcdtest.NewLink(t, tcpServer(t, func(net.Conn) { <-hold }))
	c := dialLink(t, l)
	go func() { _, _ = io.Copy(c, infinite{}) }()
	// Once every buffer on the way is full, the link's writer is stuck in Write.
	var last int64 = -1
	etcdtest.Eventually(t, soon, "the way is full", func(context.Context) error {
		passed := l.Passed(etcdtest.Requests)
		if passed != last || passed == 0 {
			last = passed
			return errors.New("not yet")
		}
		return nil
	})
	etcdtest.Returns(t, time.Second, "Blackhole", func() { l.Blackhole(etcdtest.Both) })
}

type infinite struct{}

func (infinite) Read(p []byte) (int, error) { return len(p), nil }

func TestLinkBlackholeAcceptsNewConnectionsAndPassesNothing(t *testing.T) {
	t.Parallel()
	connected := make(chan struct{}, 1)
	l := etcdtest.NewLink(t, tcpServer(t, func(c net.Conn) {
		connected <- struct{}{}
		echo(c)
	}))
	l.Blackhole(etcdtest.Both)
	c := dialLink(t, l)
	if _, err := io.WriteString(c, "held"); err != nil {
		t.Fatal(err)
	}
	etcdtest.Nothing(t, 50*time.Millisecond, "a connection at the server", connected)
	l.Heal()
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "held" {
		t.Errorf("after Heal: %q, %v", got, err)
	}
}

func TestLinkBlackholeOfResponsesLetsRequestsThrough(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	l := etcdtest.NewLink(t, tcpServer(t, func(c net.Conn) {
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil {
			return
		}
		_, _ = c.Write(got)
		seen <- string(got)
	}))
	c := dialLink(t, l)
	l.Blackhole(etcdtest.Responses)
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	etcdtest.Receive(t, soon, "the request", seen)
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 4)); n != 0 || err == nil {
		t.Errorf("read %d bytes through a black hole (%v)", n, err)
	}
	if got := l.Passed(etcdtest.Responses); got != 0 {
		t.Errorf("%d bytes passed", got)
	}
}

func TestLinkDelayIsPipelinedAndKeepsOrder(t *testing.T) {
	t.Parallel()
	const delay, messages = 100 * time.Millisecond, 50
	l := etcdtest.NewLink(t, tcpServer(t, echo))
	c := dialLink(t, l)
	fast := roundTrip(t, c, "fast")
	l.Delay(etcdtest.Both, delay, 2*delay)
	if slow := roundTrip(t, c, "slow"); slow < 2*delay || fast > delay {
		t.Errorf("round trips: %v without a delay, %v with one of %v to %v each way", fast, slow, delay, 2*delay)
	}

	// One after the other they would take 10 s and more.
	start := time.Now()
	var want bytes.Buffer
	go func() {
		each := time.NewTicker(time.Millisecond) // so that each is a chunk of its own
		defer each.Stop()
		for i := range messages {
			_, _ = c.Write([]byte{byte(i)})
			<-each.C
		}
	}()
	for i := range messages {
		want.WriteByte(byte(i))
	}
	got := make([]byte, messages)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("got %v, %v", got, err)
	}
	if took := time.Since(start); took < 2*delay || took > messages*delay/2 {
		t.Errorf("%d messages took %v", messages, took)
	}

	l.Heal()
	if healed := roundTrip(t, c, "fast"); healed >= delay {
		t.Errorf("a round trip after Heal took %v", healed)
	}
}

func TestLinkPassesTheEndOfAConnection(t *testing.T) {
	t.Parallel()
	l := etcdtest.NewLink(t, tcpServer(t, echo))
	c := dialLink(t, l).(*net.TCPConn)
	if _, err := io.WriteString(c, "last words"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "last words" {
		t.Errorf("got %q, %v", got, err)
	}
	etcdtest.Eventually(t, soon, "the connection is forgotten", func(context.Context) error {
		if n := l.Open(); n != 0 {
			return errors.New("still open")
		}
		return nil
	})
}

func TestLinkLosesTheAnswerOfAWriteThatIsCommitted(t *testing.T) {
	t.Parallel()
	s := etcdtest.Shared(t)
	key := etcdtest.Prefix(t) + "a"
	l := s.Link(0)
	cli := l.Client()
	if _, err := cli.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	l.Blackhole(etcdtest.Responses)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := cli.Put(ctx, key, "committed")
		failed <- err
	}()
	etcdtest.WaitKey(t, soon, s.Client(), key)
	cancel()
	if err := etcdtest.Receive(t, soon, "Put", failed); err == nil {
		t.Error("Put had an answer through a black hole")
	}

	l.Drop()
	l.Blackhole(etcdtest.Requests)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := cli.Put(ctx, key, "never seen"); err == nil {
		t.Error("Put succeeded through a black hole")
	}
	l.Drop()
	l.Heal()
	resp, err := cli.Get(t.Context(), key)
	if err != nil || string(resp.Kvs[0].Value) != "committed" {
		t.Errorf("got %v, %v", resp, err)
	}
}
