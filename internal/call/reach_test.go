package call

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// listen opens an address that accepts connections and never says a word.
func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// refusing returns an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	// A Unix socket, whose path nobody else takes meanwhile, as somebody might a port.
	return "unix://" + filepath.Join(t.TempDir(), "nobody")
}

func TestALookNamesEveryEndpointAndWhatItDid(t *testing.T) {
	tcp := listen(t, "tcp", "127.0.0.1:0").Addr().String()
	socket := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", socket)
	for _, c := range []struct {
		endpoint string
		says     string
		refusing int
	}{
		{tcp, "accepts connections but does not answer", 0},
		{"http://" + tcp, "accepts connections but does not answer", 0},
		{"https://" + tcp, "accepts connections but does not answer", 0},
		{"unix://" + socket, "accepts connections but does not answer", 0},
		{"unix:" + socket, "accepts connections but does not answer", 0},
		{refusing(t), "no such file", 1},
		{"127.0.0.1", "missing port", 1},
		{"dns:///etcd.example", "does not answer", 0}, // gRPC's business, so it is not held against it
	} {
		f := look(t.Context(), []string{c.endpoint})
		if len(f.lines) != 1 || !strings.HasPrefix(f.lines[0], c.endpoint) || !strings.Contains(f.lines[0], c.says) ||
			f.refusing != c.refusing {
			t.Errorf("%s: %+v, want %q", c.endpoint, f, c.says)
		}
	}
}

func TestOnlyWhenNoEndpointAcceptsIsWaitingInVain(t *testing.T) {
	mute, dead := listen(t, "tcp", "127.0.0.1:0").Addr().String(), refusing(t)
	if err := Refused(t.Context(), []string{mute, dead}); err != nil {
		t.Errorf("one accepts: %v", err)
	}
	if err := Refused(t.Context(), nil); err != nil {
		t.Errorf("no endpoints: %v", err)
	}
	err := Refused(t.Context(), []string{dead, "127.0.0.1"})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("none accepts: %v, want ErrUnreachable with both", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Refused(done, []string{dead}); err != nil {
		t.Errorf("cancelled: %v, want no verdict", err)
	}
}

func TestAFailureThatHidesItsCauseIsExplained(t *testing.T) {
	dead := refusing(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{dead}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	got := Explain(t.Context(), client, context.DeadlineExceeded)
	if !errors.Is(got, ErrUnreachable) || !errors.Is(got, context.DeadlineExceeded) || !strings.Contains(got.Error(), dead) {
		t.Errorf("%v, want the deadline, ErrUnreachable and the endpoint", got)
	}
	if again := Explain(t.Context(), client, got); again.Error() != got.Error() {
		t.Errorf("explained twice: %v", again)
	}
	plain := errors.New("etcdserver: permission denied")
	if got := Explain(t.Context(), client, plain); !errors.Is(got, plain) || errors.Is(got, ErrUnreachable) {
		t.Errorf("an error that says why: %v, want it as it is", got)
	}
}

func TestNoEtcdIsToldSoonAfterTheSecondAttempt(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{refusing(t)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	attempts := 0
	start := time.Now()
	_, err = Do(t.Context(), client, "ask", func(ctx context.Context) (*clientv3.GetResponse, error) {
		attempts++
		return client.KV.Get(ctx, "key")
	})
	if !errors.Is(err, ErrUnreachable) || !strings.HasPrefix(err.Error(), "ask: ") {
		t.Errorf("%v, want ErrUnreachable of what was asked", err)
	}
	if took := time.Since(start); attempts != 2 || took > 5*time.Second {
		t.Errorf("%d attempts in %v, want two", attempts, took)
	}
}
