package orders

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exposed"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// Name is what the service registers under, and Child what a program that starts processes of it registers
// [Main] under with package etcdproc.
const (
	Name  = "orders"
	Child = "orders service"
)

// Observed is the second argument of a process that is watched. It has it show its metrics at /metrics of the address that peers call, connect
// by a pool, and send mails: so it uses of etcdkit whatever there is a metric of.
const Observed = "--observed"

// TTL is that of the sessions of the service: how long others wait for what a dead process had.
const TTL = 4 * time.Second

// stopTimeout bounds what a process does to give back what it has.
const stopTimeout = 10 * time.Second

// startTimeout bounds how long a process that starts waits for etcd.
const startTimeout = 15 * time.Second

// Main is a process of the service: os.Args are its id, [Observed] or not, and etcd's endpoints. It runs until SIGTERM, and
// then gives back what it has.
func Main() {
	// For the rest of its life: nothing but a signal ends the process in order.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	id, endpoints := os.Args[1], os.Args[2:]
	observed := endpoints[0] == Observed
	if observed {
		endpoints = endpoints[1:]
	}
	if err := serve(ctx, id, observed, endpoints, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// service is a process of the service.
type service struct {
	id      string
	client  *clientv3.Client
	metrics http.Handler // nil if it is not observed
	teller

	parts sync.WaitGroup
	fail  context.CancelCauseFunc // ends all parts because of an error
}

// serve runs the service until life ends or something fails that does not mend itself.
func serve(life context.Context, id string, observed bool, endpoints []string, tasks io.Reader, out io.Writer) (err error) {
	var metrics http.Handler
	if observed {
		if metrics, err = exposed.Install(); err != nil {
			return err
		}
	}
	client, disconnect, err := connect(life, observed, endpoints)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(life)
	s := &service{id: id, client: client, metrics: metrics, teller: teller{out: out}, fail: fail}
	defer func() {
		fail(nil)
		s.parts.Wait()
		err = errors.Join(err, disconnect())
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
	if observed {
		s.parts.Go(func() { s.mails(ctx) })
	}

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

// patient has a process that starts wait for etcd, which may be starting, too, or busy: Open says after a second that it is.
var patient = retry.Policy{
	MaxAttempts: -1, MaxElapsed: startTimeout, AttemptTimeout: -1,
	Retryable: func(err error) bool { return errors.Is(err, pool.ErrNoQuorum) || errors.Is(err, pool.ErrUnreachable) },
}

// connect returns a client, and what closes it.
func connect(ctx context.Context, observed bool, endpoints []string) (*clientv3.Client, func() error, error) {
	if !observed {
		client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
		if err != nil {
			return nil, nil, err
		}
		return client, client.Close, nil
	}
	var connections *pool.Pool
	err := retry.Do(ctx, patient, func(ctx context.Context) (err error) {
		connections, err = pool.Open(ctx, pool.Config{Endpoints: endpoints})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return connections.Client(), func() error {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return connections.Close(bound)
	}, nil
}
