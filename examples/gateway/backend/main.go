// Command backend is a service behind the gateway: it announces itself, and drains before it stops.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// How long the steps of stopping may take. Together they are below the 30 s that Kubernetes gives by default.
const (
	drainWithin  = 5 * time.Second
	finishWithin = 15 * time.Second
	leaveWithin  = 2 * time.Second
)

var (
	endpoints = flag.String("etcd", "http://127.0.0.1:2379", "`endpoints` of etcd, separated by commas")
	listen    = flag.String("listen", "127.0.0.1:0", "`address` to serve HTTP on, as others reach it; port 0 is any that is free")
	service   = flag.String("service", "hello", "`name` of the service")
	id        = flag.String("id", "", "`name` of this instance, the same after a restart (default its address)")
	ttl       = flag.Duration("ttl", 0, "for how `long` it is still found when it has died (default 10 s)")
	work      = flag.Duration("work", 0, "how `long` a request takes")
)

func main() {
	log.SetOutput(os.Stdout)
	log.SetFlags(log.Ltime)
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(*endpoints, ","),
		DialOptions: retry.DialOptions(retry.Policy{}),
	})
	if err != nil {
		return err
	}
	defer func() { _ = etcd.Close() }() // the process ends

	// Serve first: who is announced is called at once.
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	if *id == "" {
		*id = addr
	}
	server := &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	reg, err := registry.Register(ctx, etcd, registry.Instance{Service: *service, ID: *id, Addr: addr},
		&registry.Options{Session: &session.Options{TTL: *ttl}})
	if err != nil {
		return err
	}
	log.Printf("%s: %s serves on http://%s", *service, *id, addr)

	select {
	case err = <-served:
		err = errors.Join(err, leave(reg))
	case <-ctx.Done():
		stop() // a second Ctrl-C ends the process at once
		log.Print("draining")
		err = errors.Join(drain(reg), finish(server), leave(reg))
	}
	log.Print("stopped")
	return err
}

// drain has callers go elsewhere, while requests are still taken: some callers are about to send one.
func drain(reg *registry.Registration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	return reg.Drain(ctx, time.Second)
}

// finish takes no more requests, and waits for those that are under way.
func finish(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	return server.Shutdown(ctx)
}

// leave takes the instance out of etcd.
func leave(reg *registry.Registration) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	return reg.Close(ctx)
}

// hello says who answers.
func hello(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(*work):
		fmt.Fprintf(w, "hello from %s\n", *id)
	case <-r.Context().Done():
	}
}
