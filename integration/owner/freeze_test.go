package owner_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func init() {
	etcdproc.Child("owner", func() {
		if err := work(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	})
}

// work is what the child process does: it owns, says so, and when it is told to go on it looks at its context once and
// then writes, as one would who was frozen between the two.
func work(endpoint, kindName, name string) error {
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }()
	ctx := context.Background()
	s, err := session.Open(ctx, cli, &session.Options{TTL: shortTTL})
	if err != nil {
		return err
	}
	var o owner
	for _, k := range kinds {
		if k.name == kindName {
			o, err = k.acquire(ctx, s, name)
		}
	}
	if err != nil {
		return err
	}
	g := o.Guard()
	fmt.Println("owns", g.Key, int64(g.Token))
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	fmt.Println("context", o.Context().Err() != nil, errors.Is(context.Cause(o.Context()), fence.ErrLost))
	_, err = g.Commit(ctx, cli, clientv3.OpPut(name+"-data", "old"))
	fmt.Println("commit", errors.Is(err, fence.ErrLost))
	_, err = g.KV(cli).Put(ctx, name+"-data", "old")
	fmt.Println("put", errors.Is(err, fence.ErrLost))
	fmt.Println("release", errors.Is(o.Release(ctx), fence.ErrLost))
	return nil
}

// spawn starts a child process and returns once it owns.
func spawn(t *testing.T, k kind, endpoint, name string) (*etcdproc.Process, fence.Guard) {
	t.Helper()
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "owner", Args: []string{endpoint, k.name, name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	line, err := p.Expect(ctx, "owns ")
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	var g fence.Guard
	if _, err := fmt.Sscan(line, &g.Key, &g.Token); err != nil {
		t.Fatal(err)
	}
	return p, g
}

// Fault F7: a process that was frozen for longer than its TTL goes on as if nothing had been.
func TestAFrozenOwnersLateWriteIsRefused(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		cli, name := k.client(t), etcdtest.Prefix(t)+"name"
		p, old := spawn(t, k, etcdtest.Shared(t).Endpoint(0), name)
		next := standInLine(t, k, open(t, cli, time.Minute), name, 2)
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		o := next.owns(t, soon)
		if o.Guard().Token <= old.Token {
			t.Errorf("token %d follows %d", o.Guard().Token, old.Token)
		}
		if _, err := o.Guard().Commit(o.Context(), cli, clientv3.OpPut(name+"-data", "new")); err != nil {
			t.Fatal(err)
		}
		if err := p.Say("go on"); err != nil {
			t.Fatal(err)
		}
		if err := p.Thaw(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		for _, want := range []string{"context true true", "commit true", "put true", "release true"} {
			if line, err := p.Line(ctx); err != nil || line != want {
				t.Errorf("the child says %q (%v), want %q\n%s", line, err, want, p.Stderr())
			}
		}
		if err := p.Wait(ctx); err != nil {
			t.Error(err)
		}
		resp, err := cli.Get(ctx, name+"-data")
		if err != nil || resp.Count != 1 || string(resp.Kvs[0].Value) != "new" {
			t.Errorf("the data are %v (%v), want what the new owner wrote", resp, err)
		}
		if _, err := o.Guard().Commit(o.Context(), cli, clientv3.OpPut(name+"-data", "newer")); err != nil {
			t.Errorf("the new owner: %v", err)
		}
	})
}

func TestAKilledOwnerIsSucceededAfterItsTTL(t *testing.T) {
	forEachPlain(t, func(t *testing.T, k kind) {
		name := etcdtest.Prefix(t) + "name"
		p, old := spawn(t, k, etcdtest.Shared(t).Endpoint(0), name)
		next := standInLine(t, k, open(t, k.client(t), time.Minute), name, 2)
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		// etcd looks for leases that are over twice a second.
		if o := next.owns(t, shortTTL+2*time.Second); o.Guard().Token <= old.Token {
			t.Errorf("token %d follows %d", o.Guard().Token, old.Token)
		}
		if !strings.Contains(fmt.Sprint(p.Err()), "killed") {
			t.Errorf("the process ended with %v", p.Err())
		}
	})
}
