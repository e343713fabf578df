package etcdtest_test

import (
	"context"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// An example has no testing.TB, and closes its client itself.
func ExampleEndpoints() {
	cli, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = cli.Close() }()
	resp, err := cli.Put(context.Background(), "example/a", "b")
	fmt.Println(resp.Header.Revision > 0, err)
	// Output: true <nil>
}
