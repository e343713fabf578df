// Command gateway forwards HTTP requests for /<service>/... to the instances of that service, as package registry finds
// them. README.md shows it at work.
package main

import (
	"context"
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

	"github.com/etcdkit/etcdkit/health"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

// finishWithin bounds how long requests that are under way may take when the gateway is told to stop.
const finishWithin = 20 * time.Second

var (
	endpoints = flag.String("etcd", "http://127.0.0.1:2379", "`endpoints` of etcd, separated by commas")
	listen    = flag.String("listen", "127.0.0.1:8080", "`address` to serve HTTP on")
	services  = flag.String("services", "hello", "`names` of the services to forward to, separated by commas")
	cache     = flag.String("cache", "", "`directory` for copies of the lists, to start from while etcd is away")
	grace     = flag.Duration("grace", 0, "for how `long` to go on after SIGTERM, with /readyz failing, before no more is accepted")
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

	// The views below and those of the Transport have the same options, and so share a watch.
	following := &registry.ViewOptions{CacheDir: *cache}
	transport := registry.NewTransport(etcd, &registry.TransportOptions{View: following})
	defer transport.Close()
	var views []*registry.View
	defer func() {
		for _, v := range views {
			v.Close()
		}
	}()

	mux := http.NewServeMux()
	alive := map[string]health.Fatal{}
	ready := map[string]health.Checker{"running": health.Context(ctx)} // not ready as soon as it is told to stop
	for service := range strings.SplitSeq(*services, ",") {
		if service == "" || strings.Contains(service, "/") {
			return fmt.Errorf("-services: %q cannot be the first segment of a path", service)
		}
		view, err := registry.Watch(ctx, etcd, service, following)
		if err != nil {
			return err
		}
		views = append(views, view)
		go tell(ctx, service, view)
		mux.Handle("/"+service+"/", http.StripPrefix("/"+service, forwardTo(service, transport)))
		alive[service] = health.FatalIf(view, registry.ErrClosed)
		// A list that is old because etcd is away is so in every gateway, and still serves.
		ready[service] = health.Only(view, registry.ErrClosed)
	}
	mux.Handle("/healthz", health.Liveness(alive))
	mux.Handle("/readyz", health.Readiness(ready))

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Printf("serving on http://%s", listener.Addr())

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop() // a second Ctrl-C ends the process at once
	log.Print("stopping")
	<-time.After(*grace)
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	return server.Shutdown(finish)
}

// tell logs how the instances of a service come, change and go, until ctx ends.
func tell(ctx context.Context, service string, view *registry.View) {
	for d := range view.Diffs(ctx) {
		for _, i := range d.Added {
			log.Printf("%s: %s at %s has come, %s", service, i.ID, i.Addr, i.State)
		}
		for _, c := range d.Changed {
			log.Printf("%s: %s at %s is %s now", service, c.After.ID, c.After.Addr, c.After.State)
		}
		for _, r := range d.Removed {
			log.Printf("%s: %s at %s has gone: %s", service, r.Instance.ID, r.Instance.Addr, r.Reason)
		}
	}
}
