package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

// serve is the service, until ctx ends.
func serve(ctx context.Context, etcd []string, listener net.Listener) error {
	shutdown, err := observe(ctx)
	if err != nil {
		return err
	}
	defer finish(shutdown)
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd, DialOptions: retry.DialOptions(retry.Policy{})})
	if err != nil {
		return err
	}
	defer finish(func(context.Context) error { return client.Close() })

	mail := queue.New[string](client, "mail", nil)
	http.Handle("GET /metrics", promhttp.Handler())
	http.Handle("POST /mail", post(mail))
	server := &http.Server{ReadHeaderTimeout: finishWithin}
	go func() { _ = server.Serve(listener) }()
	defer finish(server.Shutdown)
	go func() { _ = queue.Report(ctx, client, &queue.ReportOptions{Queues: []string{mail.Name()}}) }()
	return mail.Work(ctx, &queue.WorkOptions{Concurrency: 8}, send)
}

// post pushes what is posted.
func post(mail *queue.Queue[string]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = mail.Push(r.Context(), string(text), nil)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

// send is the handler. Its context carries the span of the delivery: what it does is traced below it.
func send(_ context.Context, d *queue.Delivery[string]) error {
	log.Printf("%s: %d bytes, attempt %d", d.ID, len(d.Item), d.Attempt)
	return nil
}

// finishWithin bounds how long the end of something may take.
const finishWithin = 5 * time.Second

// finish ends something in good time.
func finish(end func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if err := end(ctx); err != nil {
		log.Print(err)
	}
}
