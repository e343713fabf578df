// Command observed is a service that can be watched: it takes mails over HTTP, sends them from a queue in etcd, serves its metrics on
// /metrics for Prometheus, and sends its traces by OTLP. docs/metrics.md shows it.
//
//	OTEL_SERVICE_NAME=mail OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 observed http://127.0.0.1:2379
package main

import (
	"context"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		return err
	}
	return serve(ctx, os.Args[1:], listener)
}
