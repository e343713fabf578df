package batch_test

import (
	"bufio"
	"context"
	"errors"
	"log"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/fence"
)

// Thousands of keys, and one look at the end.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	w, err := batch.New(client, nil)
	if err != nil {
		panic(err)
	}

	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		// Waits while the buffer is full, and for nothing else.
		if _, err := w.Put(ctx, "seen/"+lines.Text(), time.Now().Format(time.RFC3339)); err != nil {
			panic(err)
		}
	}

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		log.Fatal(err) // what was not applied, what may not have been, and why
	}
}

// Who wants to know what became of a single operation keeps its handle.
func ExamplePending_Wait() {
	ctx := context.Background()
	var w *batch.Writer

	p, err := w.Put(ctx, "orders/42", "shipped")
	if err != nil {
		panic(err) // it was not taken
	}
	switch revision, err := p.Wait(ctx); {
	case err == nil:
		log.Print("in etcd at revision ", revision)
	case errors.Is(err, batch.ErrNotApplied):
		log.Print("certainly not in etcd: ", err)
	case errors.Is(err, batch.ErrUnknown):
		log.Print("read orders/42 before you rely on it: ", err)
	default:
		log.Print("ctx has ended: ", err)
	}
}

// An owner's writes are refused once it owns no more, however late they come.
func ExampleNew_guarded() {
	var (
		client *clientv3.Client
		g      fence.Guard // of a held lock, or a term
	)
	w, err := batch.New(g.KV(client), &batch.Options{
		MaxOps: 127, // the guard is an operation more
		Sole:   true,
	})
	if err != nil {
		panic(err)
	}
	if err := w.Flush(context.Background()); errors.Is(err, fence.ErrLost) {
		log.Print("somebody else owns by now")
	}
}
