package lock_test

import (
	"context"
	"database/sql"
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

// A job that is to be done once a day. Whoever comes first does it. Who comes later waits, finds it done, or does it if the first
// has died.
func ExampleMutex_Do() {
	var sess *session.Session // see Example
	var client *clientv3.Client

	done := "done/report/" + time.Now().UTC().Format(time.DateOnly)
	err := lock.NewMutex(sess, "jobs/report").Do(context.Background(), func(ctx context.Context, g fence.Guard) error {
		mark, err := client.Get(ctx, done)
		if err != nil || mark.Count > 0 {
			return err // nil: somebody has done it
		}
		if err := report(ctx); err != nil {
			return err
		}
		_, err = g.Commit(ctx, client, clientv3.OpPut(done, ""))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A service that locks request by request takes its sessions from a keeper.
func ExampleNewMutex() {
	var client *clientv3.Client // see Example

	sessions := session.NewKeeper(client, nil) // once, when the service starts
	defer sessions.Close(context.Background())

	handle := func(ctx context.Context, order string) error {
		wait, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		m := lock.NewMutex(sessions, "orders/"+order) // for each request
		held, err := m.Lock(wait)
		if err != nil {
			return err
		}
		work(held.Context(), held.Guard().Token)
		return held.Unlock(ctx)
	}
	_ = handle
}

// A database refuses the writes of owners of the past: it compares the token in the transaction that writes.
func ExampleHeld_Guard() {
	var held *lock.Held // see Mutex.Lock
	var db *sql.DB      // CREATE TABLE fences (name TEXT PRIMARY KEY, token BIGINT NOT NULL DEFAULT 1)

	ctx, token := held.Context(), held.Guard().Token
	tx, err := db.BeginTx(ctx, nil) // rolled back when the lock is lost
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	raised, err := tx.ExecContext(ctx, `UPDATE fences SET token = ? WHERE name = 'ledger' AND token <= ?`, token, token)
	if err != nil {
		log.Fatal(err)
	}
	if rows, err := raised.RowsAffected(); err != nil || rows == 0 {
		log.Fatal("somebody has written under a larger token: ", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE accounts SET amount = amount - 10 WHERE name = 'ann'`); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
}

// Many read together; who writes is alone.
func ExampleRWMutex() {
	var sess *session.Session // see Example
	var client *clientv3.Client

	prices := lock.NewRWMutex(sess, "prices")
	err := prices.Reader().Do(context.Background(), func(ctx context.Context, _ fence.Guard) error {
		return report(ctx) // the prices do not change meanwhile
	})
	if err != nil {
		log.Fatal(err)
	}
	err = prices.Writer().Do(context.Background(), func(ctx context.Context, g fence.Guard) error {
		_, err := g.Commit(ctx, client, clientv3.OpPut("price/tea", "3"), clientv3.OpPut("price/milk", "2"))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Of all processes together, no more than five do it at a time.
func ExampleSemaphore() {
	var sess *session.Session // see Example

	exports := lock.NewSemaphore(sess, "exports", 5)
	err := exports.Do(context.Background(), 1, func(ctx context.Context, _ fence.Guard) error {
		return report(ctx)
	})
	if err != nil {
		log.Fatal(err)
	}

	held, err := exports.TryAcquire(context.Background(), 3) // a large one takes the place of three
	if errors.Is(err, lock.ErrLocked) {
		return // later
	}
	if err != nil {
		log.Fatal(err)
	}
	defer held.Unlock(context.Background())
	work(held.Context(), held.Guard().Token)
}

// Each instance of a fleet has a number of its own.
func ExampleHeld_Slot() {
	var sess *session.Session // see Example

	ctx := context.Background()
	held, err := lock.NewSemaphore(sess, "workers", 64).Acquire(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer held.Unlock(ctx)
	number, err := held.Slot(ctx) // 0 to 63
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("worker %d\n", number)
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

func report(context.Context) error { return nil }
