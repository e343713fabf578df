package session_test

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// A process that holds locks for as long as it lives opens one session.
func ExampleOpen() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	sess, err := session.Open(ctx, client, &session.Options{TTL: 5 * time.Second})
	if err != nil {
		log.Fatal(err) // names the endpoints and how they failed
	}
	defer sess.Close(ctx)

	// A key of the application's own that lives as long as the process.
	if _, err := client.Put(ctx, "workers/7", "busy", clientv3.WithLease(sess.Lease())); err != nil {
		log.Fatal(err)
	}
	<-sess.Context().Done()
	fmt.Println("the session ended:", context.Cause(sess.Context()))
}

// A service that takes locks request by request must not be stuck with a session that was lost: a keeper opens
// the next one.
func ExampleKeeper() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	keeper := session.NewKeeper(client, nil)
	defer keeper.Close(ctx)
	serve := func(ctx context.Context, order string) error {
		return lock.NewMutex(keeper, "orders/"+order).Do(ctx, func(ctx context.Context, g fence.Guard) error {
			_, err := g.Commit(ctx, client, clientv3.OpPut("orders/"+order+"/state", "paid"))
			return err
		})
	}
	if err := serve(ctx, "42"); err != nil {
		log.Print(err)
	}
}
