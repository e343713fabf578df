package doctor

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

func TestBoundsAreReviewed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		retry.Policy
		want  Verdict
		words string
	}{
		{"the defaults", retry.Policy{}, OK, ""},
		{"no connect timeout", retry.Policy{ConnectTimeout: -1}, Fail, "ConnectTimeout"},
		{"no bound on answers", retry.Policy{ReadTimeout: -1, MaxElapsed: -1}, Fail, "MaxElapsed"},
		{"one that is enough", retry.Policy{ReadTimeout: -1}, OK, ""},
		{"no attempt timeout", retry.Policy{AttemptTimeout: -1}, Fail, "attempts have no timeout"},
		{"one attempt", retry.Policy{MaxAttempts: 1}, Fail, "tried once"},
		{"no time for a second attempt", retry.Policy{AttemptTimeout: 2 * time.Second}, Warn, "second one"},
		{"patience", retry.Policy{ConnectTimeout: time.Minute, MaxElapsed: 2 * time.Minute}, Warn, "ConnectTimeout is 1m0s"},
		{"lock step", retry.Policy{Jitter: 0.1}, Warn, "random"},
		{"nonsense", retry.Policy{Jitter: 7}, Fail, "Jitter"},
	} {
		if f := reviewBounds(c.Policy); f.Verdict != c.want || !strings.Contains(f.Reason, c.words) || f.Verdict != OK && f.Remedy == "" {
			t.Errorf("%s: %+v, want %s with %q", c.name, f, c.want, c.words)
		}
	}
}

func TestEndpointsAreReviewed(t *testing.T) {
	t.Parallel()
	three := make([]*pb.Member, 3)
	for _, c := range []struct {
		name      string
		endpoints []string
		members   []*pb.Member
		want      Verdict
	}{
		{"all", []string{"a:1", "b:1", "c:1"}, three, OK},
		{"one of three", []string{"a:1"}, three, Warn},
		{"two of three", []string{"a:1", "b:1"}, three, Warn},
		{"the only one", []string{"a:1"}, three[:1], OK},
		{"one of who knows", []string{"a:1"}, nil, Warn},
		{"twice the same", []string{"http://a:1", "a:1", "b:1"}, three, Warn},
		{"more than there are", []string{"a:1", "b:1"}, three[:1], Warn},
	} {
		if f := reviewEndpoints(c.endpoints, c.members); f.Verdict != c.want || f.Verdict != OK && f.Remedy == "" {
			t.Errorf("%s: %+v, want %s", c.name, f, c.want)
		}
	}
}

func TestCredentialsAreReviewedAndNotShown(t *testing.T) {
	t.Parallel()
	if f := reviewLogin(pool.Config{Token: "secret"}); f.Verdict != Warn || strings.Contains(strings.Join(f.Evidence, " ")+f.Reason+f.Remedy, "secret") {
		t.Errorf("a token: %+v", f)
	}
	if f := reviewLogin(pool.Config{Username: "app", Password: "secret"}); f.Verdict != OK || strings.Contains(strings.Join(f.Evidence, " ")+f.Reason, "secret") {
		t.Errorf("a password: %+v", f)
	}
}

// echo is a server that says whatever it hears.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						_ = c.Close()
						return
					}
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
	return l
}

func TestAStandPassesOnAndThenHangs(t *testing.T) {
	t.Parallel()
	s, err := standFor("http://" + echo(t).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	open := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", hostOf(s.endpoint()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
	c, in := open()
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("%q, %v came back", line, err)
	}
	s.hang()
	late, lateIn := open()
	for conn, from := range map[net.Conn]*bufio.Reader{c: in, late: lateIn} {
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			t.Errorf("it does not hang, it hangs up: %v", err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if line, err := from.ReadString('\n'); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%q, %v came back", line, err)
		}
	}
	if n := s.swallowed.Load(); n != 12 {
		t.Errorf("%d bytes were swallowed, want 12", n)
	}
}
