package registry_test

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// A service announces itself, and its peers see it come, change and go.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	view, err := registry.Watch(ctx, client, "greeter", nil)
	if err != nil {
		panic(err)
	}
	defer view.Close()
	fmt.Println("at first:", len(view.Snapshot().Instances))

	reg, err := registry.Register(ctx, client, registry.Instance{
		Service: "greeter", ID: "greeter-0", Addr: "10.0.0.7:80",
	}, nil)
	if err != nil {
		panic(err)
	}

	for s := range view.Changes(ctx) { // the current one first
		switch {
		case len(s.Instances) == 0 && reg.Err() == nil:
			// not seen yet
		case len(s.Instances) == 0:
			fmt.Println("gone")
			return
		case s.Instances[0].State == registry.Draining:
			// says goodbye, as Close has it do
		case s.Instances[0].Version == "":
			fmt.Println("found:", s.Instances[0].Addr)
			if err := reg.Update(ctx, func(i *registry.Instance) { i.Version = "2.0" }); err != nil {
				panic(err)
			}
		default:
			fmt.Println("updated to", s.Instances[0].Version)
			if err := reg.Close(ctx); err != nil {
				panic(err)
			}
		}
	}
	// Output:
	// at first: 0
	// found: 10.0.0.7:80
	// updated to 2.0
	// gone
}
