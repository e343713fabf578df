package registry_test

import (
	"context"
	"database/sql"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
)

var (
	client *clientv3.Client
	orders *sql.DB
)

// An instance that gets work only while it answers and its database does.
func ExampleCheck() {
	ctx := context.Background()
	alive := registry.HTTPCheck("http://127.0.0.1:8080/healthz")
	alive.Period = 2 * time.Second
	database := registry.Check{Name: "database", Probe: orders.PingContext}

	// Listen first: the next probe after one that fails is a Period away.
	reg, err := registry.Register(ctx, client, registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:8080"},
		&registry.Options{Checks: []registry.Check{alive, database}})
	if err != nil {
		panic(err)
	}
	defer reg.Close(ctx)
	<-ctx.Done()
}
