package election_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func init() {
	etcdproc.Child("election", func() {
		if err := lead(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	})
}

// lead is what the child process does: its work hangs, and whenever it is told to it says what a liveness probe would.
func lead(endpoint, name string) error {
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }()
	health := election.NewHealth(-1)
	opts := &election.Options{Session: &session.Options{TTL: 2 * time.Second}, Health: health}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	err = election.Run(ctx, cli, name, "child", opts, func(context.Context, *election.Term) error {
		fmt.Println("leads")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() && in.Text() != "return" {
			err := health.Check()
			fmt.Println("healthy", err == nil, errors.Is(err, fence.ErrLost))
		}
		cancel(enough)
		return in.Err()
	})
	if !errors.Is(err, enough) {
		return err
	}
	fmt.Println("returned")
	return nil
}

// No timer has run yet when it wakes up, and the probe may come first.
func TestTheFirstCheckOfALeaderThatWasFrozenIsTrue(t *testing.T) {
	t.Parallel()
	name := etcdtest.Prefix(t) + "name"
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "election", Args: []string{etcdtest.Shared(t).Endpoint(0), name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	if _, err := p.Expect(ctx, "leads"); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	says := func(what, want string) {
		t.Helper()
		if err := p.Say(what); err != nil {
			t.Fatal(err)
		}
		if line, err := p.Line(ctx); err != nil || line != want {
			t.Errorf("the child says %q (%v), want %q\n%s", line, err, want, p.Stderr())
		}
	}
	says("check", "healthy true false")
	next := campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	term := etcdtest.Receive(t, soon, "the next one", next)
	if err := p.Say("check"); err != nil { // it finds this when it wakes up
		t.Fatal(err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if line, err := p.Line(ctx); err != nil || line != "healthy false true" {
		t.Errorf("the child says %q (%v), want the loss\n%s", line, err, p.Stderr())
	}
	says("return", "returned")
	if err := p.Wait(ctx); err != nil {
		t.Error(err)
	}
	if term.Context().Err() != nil {
		t.Errorf("the next one has ended: %v", context.Cause(term.Context()))
	}
	resign(t, term)
}
