package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/retry"
)

// endpoints waits until dev says where etcd is.
func (r *run) endpoints() []string {
	r.t.Helper()
	return strings.Split(r.expect("export ETCDCTL_ENDPOINTS="), ",")
}

// client opens a client, and bounds all it is used for.
func client(t *testing.T, endpoints ...string) (*clientv3.Client, context.Context) {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(func() {
		cancel()
		if err := cli.Close(); err != nil {
			t.Error(err)
		}
	})
	return cli, ctx
}

// stops sends a signal that is to stop dev in order.
func (r *run) stops(s syscall.Signal) {
	r.t.Helper()
	r.signal(s)
	if _, code := r.wait(); code != 0 || r.errs.Len() > 0 {
		r.t.Errorf("code %d after %v, stderr %q", code, s, &r.errs)
	}
	r.nothingLeft()
}

func TestDevStartsAnswersAndStopsWithNothingLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		members int
		stop    syscall.Signal
	}{{1, syscall.SIGINT}, {3, syscall.SIGTERM}} {
		r := launch(t, "dev", "--port", "0", "--members", strconv.Itoa(test.members))
		endpoints := r.endpoints()
		if len(endpoints) != test.members {
			t.Fatalf("endpoints %v, want %d", endpoints, test.members)
		}
		for _, endpoint := range endpoints {
			cli, ctx := client(t, endpoint)
			if _, err := cli.Put(ctx, "key", "value"); err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
		r.stops(test.stop)
	}
}

func TestDevFindsItsDirectoryAgainAndSharesItWithNobody(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	r := launch(t, "dev", "--port", "0", "--dir", dir, "--members", "3")
	cli, ctx := client(t, r.endpoints()...)
	if _, err := cli.Put(ctx, "key", "value"); err != nil {
		t.Fatal(err)
	}
	_, errs, code := do(t, "dev", "--port", "0", "--dir", dir)
	if code != exit.Failed || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "another cluster runs in "+dir) {
		t.Errorf("a second one in the same directory: code %d, stderr %q", code, errs)
	}
	r.stops(syscall.SIGINT)

	_, errs, code = do(t, "dev", "--port", "0", "--dir", dir, "--members", "1")
	if code != exit.Failed || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "3 members") {
		t.Errorf("with another number of members: code %d, stderr %q", code, errs)
	}
	r = launch(t, "dev", "--port", "0", "--dir", dir)
	endpoints := r.endpoints()
	cli, ctx = client(t, endpoints...)
	resp, err := cli.Get(ctx, "key")
	if err != nil || len(resp.Kvs) != 1 || len(endpoints) != 3 {
		t.Errorf("%d members have %v, %v", len(endpoints), resp, err)
	}
	r.stops(syscall.SIGINT)
}

func TestDevListensWhereItIsToldAndSaysIfItCannot(t *testing.T) {
	t.Parallel()
	ports, err := etcdproc.ReservePorts()
	if err != nil {
		t.Fatal(err)
	}
	defer ports.Close()
	number, _ := ports.Take()
	port := strconv.Itoa(number)
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_, errs, code := do(t, "dev", "--port", port)
	if code != exit.Failed || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "port "+port) || !strings.Contains(errs, "--port takes others") {
		t.Errorf("a port in use: code %d, stderr %q", code, errs)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := launch(t, "dev", "--port", port)
	if got, want := r.endpoints(), "http://127.0.0.1:"+port; got[0] != want {
		t.Errorf("endpoint %v, want %s", got, want)
	}
	r.stops(syscall.SIGINT)
}

func TestDevGoesOnWithAMajorityAndFailsWithoutOne(t *testing.T) {
	t.Parallel()
	r := launch(t, "dev", "--port", "0", "--members", "3")
	kill := func(line string) {
		fields := strings.Fields(line)
		pid, err := strconv.Atoi(fields[len(fields)-1])
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(line, err)
		}
	}
	first, second := r.expect("  members    m0"), r.expect("             m1")
	endpoints := r.endpoints()
	kill(first)
	if said := r.expect("  m0 has ended"); said != " (signal: killed). The others go on." {
		t.Errorf("said %q", said)
	}
	cli, ctx := client(t, endpoints...)
	// It may have been etcd's leader: what is under way then fails, and is tried again.
	err := retry.Do(ctx, retry.Policy{MaxAttempts: -1, MaxElapsed: soon, Retryable: retry.Idempotent}, func(ctx context.Context) error {
		_, err := cli.Put(ctx, "key", "value")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	kill(second)
	if _, code := r.wait(); code != exit.Failed || !strings.Contains(r.errs.String(), "m1 has ended (signal: killed), and etcd with it") {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	r.nothingLeft()
}

func TestDevLeavesNoProcessWhenItIsKilledAndTheNextOneRemovesItsDirectory(t *testing.T) {
	t.Parallel()
	r := launch(t, "dev", "--port", "0", "--members", "3")
	r.endpoints()
	r.signal(syscall.SIGKILL)
	r.wait()
	r.noProcess()
	left, err := filepath.Glob(filepath.Join(r.tmp, "*", "in-use"))
	if err != nil || len(left) != 1 {
		t.Fatalf("a killed one has left %v, %v", left, err)
	}
	old := time.Now().Add(-time.Hour) // a young one may be about to be locked
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	next := launchIn(t, r.tmp, "dev", "--port", "0")
	next.endpoints()
	next.stops(syscall.SIGINT)
}
