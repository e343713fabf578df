package pool_test

import (
	"context"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/pool"
)

// One pool a process, and its client for everything.
func ExampleOpen() {
	ctx := context.Background()
	p, err := pool.Open(ctx, pool.Config{
		Endpoints: []string{"https://etcd-0:2379", "https://etcd-1:2379", "https://etcd-2:2379"},
		TLS:       &pool.TLSFiles{CA: "ca.pem", Cert: "client.pem", Key: "client-key.pem"},
	})
	if err != nil {
		log.Fatal(err) // which names the endpoints, and what each of them did
	}
	defer p.Close(ctx)
	etcd := p.Client() // for sessions, locks, registrations, and requests of your own
	if _, err := etcd.Put(ctx, "greeting", "hello"); err != nil {
		log.Print(err)
	}
}

// Traffic that would hold up others has connections of its own.
func ExamplePool_Do() {
	ctx := context.Background()
	p, err := pool.Open(ctx, pool.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)
	err = p.Do(ctx, func(ctx context.Context, bulk *clientv3.Client) error {
		all, err := bulk.Get(ctx, "archive/", clientv3.WithPrefix())
		if err == nil {
			log.Print(len(all.Kvs), " keys")
		}
		return err
	})
	if err != nil {
		log.Print(err)
	}
}
