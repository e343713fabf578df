package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// The callback form cannot leak the lock, and reports a loss.
func Example() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
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

	err = lock.NewMutex(sess, "migrations").Do(ctx, func(ctx context.Context, g fence.Guard) error {
		_, err := g.Commit(ctx, client, clientv3.OpPut("schema/version", "7"))
		return err
	})
	if errors.Is(err, fence.ErrLost) {
		fmt.Println("somebody else may have migrated meanwhile")
	}
}

// With the handle, work runs under its Context, and the token goes to whoever can refuse late writes.
func ExampleMutex_Lock() {
	var sess *session.Session // see Example

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	held, err := lock.NewMutex(sess, "orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	work(held.Context(), held.Guard().Token)
	if err := held.Unlock(ctx); errors.Is(err, fence.ErrLost) {
		log.Print("the lock was lost during the work")
	}
}

// TryLock does not wait.
func ExampleMutex_TryLock() {
	var sess *session.Session // see Example

	ctx := context.Background()
	held, err := lock.NewMutex(sess, "reports/daily").TryLock(ctx)
	if errors.Is(err, lock.ErrLocked) {
		return // somebody else makes it
	}
	if err != nil {
		log.Fatal(err)
	}
	defer held.Unlock(ctx)
	work(held.Context(), held.Guard().Token)
}

// Several locks are held together, or none of them: no two who want the same ones in another order wait for each other.
func ExampleMulti() {
	var sess *session.Session // see Example
	var client *clientv3.Client

	from, to := "accounts/7", "accounts/9"
	err := lock.NewMulti(sess, from, to).Do(context.Background(), func(ctx context.Context, guards []fence.Guard) error {
		kv := guards[0].KV(guards[1].KV(client.KV)) // what is written, is written while both are held
		_, err := kv.Txn(ctx).Then(clientv3.OpPut("balance/7", "90"), clientv3.OpPut("balance/9", "110")).Commit()
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Inspect tells people who holds a lock, and since when.
func ExampleInspect() {
	var client *clientv3.Client // see Example

	owners, err := lock.Inspect(context.Background(), client, "migrations")
	if err != nil {
		log.Fatal(err)
	}
	for i, o := range owners {
		role := "waits"
		if i == 0 {
			role = "holds"
		}
		fmt.Printf("%s on %s (pid %d) %s since %v\n", o.Who, o.Host, o.PID, role, o.Since)
	}
}

func work(context.Context, fence.Token) {}
