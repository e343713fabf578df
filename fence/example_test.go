package fence_test

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// A write to etcd travels with the proof that its writer still owns.
func ExampleGuard_Commit() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx := context.Background()
	sess, err := session.Open(ctx, client, nil)
	if err != nil {
		panic(err)
	}
	defer sess.Close(ctx)

	err = lock.NewMutex(sess, "migrations").Do(ctx, func(ctx context.Context, g fence.Guard) error {
		// However long this process was frozen before this line: either it still holds the lock when etcd
		// applies the write, or nothing is written.
		_, err := g.Commit(ctx, client, clientv3.OpPut("schema/version", "7"))
		return err
	})
	if errors.Is(err, fence.ErrLost) {
		fmt.Println("somebody else may have migrated meanwhile")
	}
}

// Code that takes a clientv3.KV and cannot be changed is given a guarded one.
func ExampleGuard_KV() {
	var (
		client *clientv3.Client
		g      fence.Guard
	)
	migrate := func(kv clientv3.KV) error {
		_, err := kv.Put(context.Background(), "schema/version", "7")
		return err
	}
	if err := migrate(g.KV(client)); errors.Is(err, fence.ErrLost) {
		fmt.Println("too late")
	}
}

// A store that is not etcd compares the token with the highest it has seen, here in memory.
func ExampleWatermark() {
	var store fence.Watermark
	write := func(token fence.Token, value string) {
		if err := store.Admit(token); err != nil {
			fmt.Printf("%s: refused\n", value)
			return
		}
		fmt.Printf("%s: written\n", value)
	}
	write(41, "by the first owner")
	write(57, "by the second owner")
	write(41, "by the first owner, who was frozen meanwhile")
	// Output:
	// by the first owner: written
	// by the second owner: written
	// by the first owner, who was frozen meanwhile: refused
}
