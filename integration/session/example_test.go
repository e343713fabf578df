package session_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func Example() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	sess, err := session.Open(ctx, client, &session.Options{TTL: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Put(ctx, "workers/7", "busy", clientv3.WithLease(sess.Lease())); err != nil {
		log.Fatal(err)
	}
	fmt.Println("trusted for a while:", time.Until(sess.TrustedUntil()) > 4*time.Second)

	if err := sess.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed:", errors.Is(context.Cause(sess.Context()), session.ErrClosed))
	resp, err := client.Get(ctx, "workers/7")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("keys left:", resp.Count)
	// Output:
	// trusted for a while: true
	// closed: true
	// keys left: 0
}

// A keeper opens the next session when the last was lost.
func ExampleKeeper() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	keeper := session.NewKeeper(client, nil)
	defer keeper.Close(ctx)
	first, err := keeper.Live(ctx)
	if err != nil {
		log.Fatal(err)
	}
	again, err := keeper.Live(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same while it lives:", first == again)

	if _, err := client.Revoke(ctx, first.Lease()); err != nil { // by an operator, say
		log.Fatal(err)
	}
	first.Probe() // or a third of a TTL later by itself
	<-first.Context().Done()
	fmt.Println("lost:", errors.Is(context.Cause(first.Context()), session.ErrLost))
	next, err := keeper.Live(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("another one:", next != first && next.Context().Err() == nil)
	// Output:
	// the same while it lives: true
	// lost: true
	// another one: true
}
