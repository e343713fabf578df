package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// rbacPassword is everybody's.
const rbacPassword = "p"

// rbacWorld is an etcd with authentication.
type rbacWorld struct {
	t        *testing.T
	endpoint string
	root     *clientv3.Client
}

// newRBACWorld starts an etcd, and turns authentication on.
func newRBACWorld(t *testing.T) *rbacWorld {
	t.Helper()
	w := &rbacWorld{t: t, endpoint: ownEtcd(t)}
	open, ctx := client(t, w.endpoint)
	_, err := open.UserAdd(ctx, "root", rbacPassword)
	rbacMust(t, err)
	_, err = open.UserGrantRole(ctx, "root", "root")
	rbacMust(t, err)
	_, err = open.AuthEnable(ctx)
	rbacMust(t, err)
	w.root = w.dial("root", nil)
	return w
}

func rbacMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial is a client of a user. denied, if it is not nil, is called with what etcd does not permit it.
func (w *rbacWorld) dial(user string, denied func(what string)) *clientv3.Client {
	w.t.Helper()
	cfg := clientv3.Config{Endpoints: []string{w.endpoint}, Username: user, Password: rbacPassword, Logger: zap.NewNop()}
	if denied != nil {
		cfg.DialOptions = rbacSpy(denied)
	}
	cli, err := clientv3.New(cfg)
	rbacMust(w.t, err)
	w.t.Cleanup(func() {
		closed := make(chan struct{})
		go func() { defer close(closed); _ = cli.Close() }()
		// client/v3 waits for ever for a watch that was refused just when the last other one of its stream was closed: its stream
		// is gone, and nobody takes the word that it is over.
		select {
		case <-closed:
		case <-time.After(time.Second):
		}
	})
	return cli
}

// rbacSpy sees what is refused for want of a permission, whoever ignores it.
func rbacSpy(denied func(what string)) []grpc.DialOption {
	refused := func(what string, err error) {
		if status.Code(err) == codes.PermissionDenied || err != nil && strings.Contains(err.Error(), rpctypes.ErrPermissionDenied.Error()) {
			denied(what)
		}
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			refused(fmt.Sprintf("%s %.300v", method, req), err)
			return err
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			refused(method, err)
			return &rbacStream{s, method, refused}, err
		}),
	}
}

type rbacStream struct {
	grpc.ClientStream
	method  string
	refused func(what string, err error)
}

func (s *rbacStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.refused(s.method, err)
	if resp, ok := m.(*pb.WatchResponse); ok && resp.GetCanceled() {
		s.refused(s.method, errors.New(resp.GetCancelReason()))
	}
	return err
}

// rbac runs etcdkit rbac as root.
func (w *rbacWorld) rbac(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	all := append([]string{"rbac", "--endpoints", w.endpoint, "--user", "root:" + rbacPassword}, args...)
	code = execute(all, strings.NewReader(""), &o, &e)
	return o.String(), e.String(), code
}

// grant makes a user who has the least role of a recipe, and no other.
func (w *rbacWorld) grant(user string, e rbacExercise, name, tenant string) {
	w.t.Helper()
	_, err := w.root.UserAdd(w.t.Context(), user, rbacPassword)
	rbacMust(w.t, err)
	if e.recipe == "session" {
		return
	}
	p := e.params(name)
	args := []string{e.recipe, p.Name, "--apply", "--role", user, "--grant-to", user}
	if p.ID != "" {
		args = append(args, "--id", p.ID)
	}
	if p.Prefix != "" {
		args = append(args, "--prefix", p.Prefix)
	}
	if tenant != "" {
		args = append(args, "--tenant", tenant)
	}
	if _, errs, code := w.rbac(args...); code != 0 {
		w.t.Fatalf("%q: code %d, stderr %q", args, code, errs)
	}
}

// rbacActors are those who take part in an exercise.
type rbacActors struct {
	user, root *clientv3.Client
	name       string
}

// rbacExercise is all that is done under a role.
type rbacExercise struct {
	recipe string
	params func(name string) roles.Params
	run    func(ctx context.Context, a rbacActors) error
}

// rbacWithin is how long an exercise may take, on a busy machine.
const rbacWithin = 60 * time.Second

// rbacDeniedError is the end of an exercise to whose user something was refused.
type rbacDeniedError struct{ what string }

func (e rbacDeniedError) Error() string { return "denied: " + e.what }

// exercise does what a role is for, as a user, and returns the first thing that was refused, or what went wrong.
func (w *rbacWorld) exercise(e rbacExercise, user, name, tenant string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), rbacWithin)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	a := rbacActors{user: w.dial(user, func(what string) { end(rbacDeniedError{what}) }), root: w.dial("root", nil), name: name}
	if tenant != "" {
		for _, c := range []*clientv3.Client{a.user, a.root} { // as package pool does it
			c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, tenant), namespace.NewWatcher(c.Watcher, tenant), namespace.NewLease(c.Lease, tenant)
		}
	}
	done := make(chan error, 1)
	go func() { done <- e.run(ctx, a) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
		select {
		case <-done:
		case <-time.After(soon):
			err = errors.Join(err, errors.New("it does not end"))
		}
	}
	if denied, ok := errors.AsType[rbacDeniedError](context.Cause(ctx)); ok {
		return denied
	}
	return err
}

// rbacEach runs functions, some at a time: they wait most of the time.
func rbacEach(n int, fn func(i int)) {
	var all sync.WaitGroup
	room := make(chan struct{}, 5)
	for i := range n {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			fn(i)
		})
	}
	all.Wait()
}
