package orders

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// Name is what the service registers under, and Child what a program that starts processes of it registers
// [Main] under with package etcdproc.
const (
	Name  = "orders"
	Child = "orders service"
)

// TTL is that of the sessions of the service: how long others wait for what a dead process had.
const TTL = 4 * time.Second

// stopTimeout bounds what a process does to give back what it has.
const stopTimeout = 10 * time.Second

// Main is a process of the service: os.Args are its id and etcd's endpoints. It runs until SIGTERM, and then
// gives back what it has.
func Main() {
	// For the rest of its life: nothing but a signal ends the process in order.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if err := serve(ctx, os.Args[1], os.Args[2:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// service is a process of the service.
type service struct {
	id     string
	client *clientv3.Client
	teller

	parts sync.WaitGroup
	fail  context.CancelCauseFunc // ends all parts because of an error
}

// serve runs the service until life ends or something fails that does not mend itself.
func serve(life context.Context, id string, endpoints []string, tasks io.Reader, out io.Writer) (err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(life)
	s := &service{id: id, client: client, teller: teller{out: out}, fail: fail}
	defer func() {
		fail(nil)
		s.parts.Wait()
		err = errors.Join(err, client.Close())
		s.tell(Event{Kind: Stopped})
	}()

	prices, err := config.Open(ctx, client, ConfigKey, &config.Options[Prices]{Validate: Prices.Validate})
	if err != nil {
		return err
	}
	defer prices.Close()
	view, err := registry.Watch(ctx, client, Name, nil)
	if err != nil {
		return err
	}
	defer view.Close()
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}

	s.parts.Go(func() { s.reprice(ctx, prices) })
	s.parts.Go(func() { s.meet(ctx, view) })
	s.parts.Go(func() { s.stand(ctx) })
	s.parts.Go(func() { s.work(ctx, prices, hear(tasks)) })

	// Last, when it can be called; and taken back first, so that nobody calls what is going away.
	self := registry.Instance{Service: Name, ID: id, Addr: listener.Addr().String()}
	registration, err := registry.Register(ctx, client, self, &registry.Options{Session: &session.Options{TTL: TTL}})
	if err != nil {
		return err
	}
	s.tell(Event{Kind: Registered, Addr: self.Addr, Revision: registration.Revision()})
	<-ctx.Done()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err = registration.Close(bound)
	if life.Err() == nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}
