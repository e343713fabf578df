package config_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// Limits is what operators put under /config/mail/limits, as YAML or JSON.
type Limits struct {
	Rate    int           `json:"rate"`
	Timeout time.Duration `json:"timeout"`
}

// valid refuses limits that would stop the service.
func valid(l Limits) error {
	if l.Rate < 1 {
		return errors.New("rate must be at least 1")
	}
	return nil
}

// A service reads its limits, goes on with the last good ones when somebody makes a mistake, and takes the next.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	must := func(_ *clientv3.PutResponse, err error) {
		if err != nil {
			panic(err)
		}
	}
	must(client.Put(ctx, "/config/mail/limits", "rate: 100\ntimeout: 2s"))

	limits, err := config.Open(ctx, client, "/config/mail/limits", &config.Options[Limits]{Validate: valid})
	if err != nil {
		panic(err)
	}
	defer limits.Close()

	puts := []string{"rate: none at all", `{"rate": 0}`, `{"rate": 50, "timeout": "1s"}`}
	for s := range limits.Changes(ctx) {
		fmt.Println(s.Source, s.Value.Rate, s.Value.Timeout)
		if s.Value.Rate == 50 {
			break
		}
		for _, document := range puts {
			must(client.Put(ctx, "/config/mail/limits", document))
		}
	}
	fmt.Println(limits.Get().Rate, limits.Err())
	// Output:
	// live 100 2s
	// live 50 1s
	// 50 <nil>
}
