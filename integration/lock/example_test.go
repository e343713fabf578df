package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func Example() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	sess, err := session.Open(ctx, client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(ctx)

	migrations := lock.NewMutex(sess, "migrations")
	err = migrations.Do(ctx, func(ctx context.Context, g fence.Guard) error {
		_, err := migrations.TryLock(context.Background())
		fmt.Println("held:", errors.Is(err, lock.ErrLocked))
		_, err = g.Commit(ctx, client, clientv3.OpPut("schema/version", "7"))
		return err
	})
	fmt.Println("migrated:", err == nil)
	// Output:
	// held: true
	// migrated: true
}

// Waiting is bounded by the context, and leaves nothing in line.
func ExampleMutex_Lock() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	sess, err := session.Open(ctx, client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(ctx)

	first, err := lock.NewMutex(sess, "orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	enough := errors.New("waited long enough")
	impatient, cancel := context.WithCancelCause(ctx)
	cancel(enough)
	_, err = lock.NewMutex(sess, "orders/42").Lock(impatient)
	fmt.Println(err)

	if err := first.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	second, err := lock.NewMutex(sess, "orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("later tokens are larger:", second.Guard().Token > first.Guard().Token)
	fmt.Println(second.Unlock(ctx), context.Cause(second.Context()))
	// Output:
	// lock "orders/42": waited long enough
	// later tokens are larger: true
	// <nil> released by its owner
}
