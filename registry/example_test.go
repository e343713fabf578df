package registry_test

import (
	"context"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
)

// A service that is found for as long as it runs.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	// Register when requests can be served, and not before.
	reg, err := registry.Register(ctx, client, registry.Instance{
		Service: "mail",
		ID:      os.Getenv("POD_NAME"), // the same one after a restart
		Addr:    os.Getenv("POD_IP") + ":8080",
		Zone:    os.Getenv("ZONE"),
	}, nil)
	if err != nil {
		panic(err)
	}
	<-ctx.Done()
	if err := reg.Close(ctx); err != nil { // works although ctx is done
		log.Print(err) // others find the instance until its TTL is over
	}
}

// A caller that always knows who serves: a snapshot is a read from memory.
func ExampleWatch() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	mail, err := registry.Watch(ctx, client, "mail", nil)
	if err != nil {
		panic(err)
	}
	defer mail.Close()

	if all := mail.Snapshot().Instances; len(all) > 0 {
		call(all[rand.IntN(len(all))].Addr)
	}
}

// What has to be told of each change, instead of asking, ranges over them.
func ExampleView_Changes() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	mail, err := registry.Watch(ctx, client, "mail", nil)
	if err != nil {
		panic(err)
	}
	defer mail.Close()

	for s := range mail.Changes(ctx) { // the current one first
		log.Printf("%d instances at revision %d, %s", len(s.Instances), s.Revision, s.Source)
		if err := mail.Err(); err != nil {
			log.Print(err) // why they are stale, or which are skipped
		}
	}
}

func call(string) {}
