package fence_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// An owner that was frozen past its lease wakes up and writes.
func Example() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	own := func() (*session.Session, fence.Guard) {
		sess, err := session.Open(ctx, client, nil)
		if err != nil {
			log.Fatal(err)
		}
		held, err := lock.NewMutex(sess, "migrations").Lock(ctx)
		if err != nil {
			log.Fatal(err)
		}
		return sess, held.Guard()
	}
	write := func(g fence.Guard, version string) {
		_, err := g.Commit(ctx, client, clientv3.OpPut("schema/version", version))
		fmt.Printf("version %s refused: %t\n", version, errors.Is(err, fence.ErrLost))
	}

	first, frozen := own()
	write(frozen, "7")
	first.Close(ctx) // as etcd does with the lease of one who is frozen
	second, g := own()
	write(g, "8")
	write(frozen, "7")
	fmt.Println("later tokens are larger:", g.Token > frozen.Token)
	second.Close(ctx)
	// Output:
	// version 7 refused: false
	// version 8 refused: false
	// version 7 refused: true
	// later tokens are larger: true
}
