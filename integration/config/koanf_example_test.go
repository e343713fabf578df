package config_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/knadh/koanf/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// A program that has koanf reads its configuration from etcd, and goes on with the newest.
func ExampleNewTreeProvider() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	set := func(key, value string) {
		if _, err := client.Put(ctx, key, value); err != nil {
			panic(err)
		}
	}
	set("/config/shop/database.url", "postgres://one")
	set("/config/shop/limits/rate", "100")

	provider := config.NewTreeProvider(client, "/config/shop")
	var current atomic.Pointer[koanf.Koanf] // what the program reads: replaced as a whole, and never changed
	load := func() error {
		k := koanf.New(".")
		if err := k.Load(provider, nil); err != nil {
			return err
		}
		current.Store(k)
		return nil
	}
	if err := load(); err != nil {
		panic(err)
	}
	fmt.Println(current.Load().String("database.url"), current.Load().Int("limits.rate"))

	loaded := make(chan struct{}, 1)
	err = provider.Watch(func(_ any, err error) {
		if err == nil {
			err = load()
		}
		if err != nil {
			fmt.Println("going on with what there is:", err)
			return
		}
		loaded <- struct{}{}
	})
	if err != nil {
		panic(err)
	}
	defer func() { _ = provider.Unwatch() }() // there is no error

	set("/config/shop/limits/rate", "50")
	<-loaded
	fmt.Println(current.Load().String("database.url"), current.Load().Int("limits.rate"))
	// Output:
	// postgres://one 100
	// postgres://one 50
}
