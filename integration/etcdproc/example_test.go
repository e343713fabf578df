package etcdproc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// A leader is killed, and what it had accepted is still there.
func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := etcdproc.Start(ctx, etcdproc.Config{Members: 3})
	if err != nil {
		log.Print(err)
		return
	}
	if err := errors.Join(killLeader(ctx, c), c.Stop(ctx)); err != nil {
		log.Print(err)
	}
	// Output: still there
}

func killLeader(ctx context.Context, c *etcdproc.Cluster) error {
	cli, err := c.Client(clientv3.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }()
	if _, err := cli.Put(ctx, "key", "still there"); err != nil {
		return err
	}
	old, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	if err := c.Kill(old); err != nil {
		return err
	}
	if _, err := c.Leader(ctx); err != nil {
		return err
	}
	resp, err := cli.Get(ctx, "key")
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", resp.Kvs[0].Value)
	return nil
}

// The program is its own child. TestMain has registered "echo" and called Main.
func ExampleSpawn() {
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "echo"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if err := p.Say("hello"); err != nil {
		log.Print(err)
	}
	said, err := p.Expect(context.Background(), "heard ")
	fmt.Println(said, err)
	// Output: hello <nil>
}
