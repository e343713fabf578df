package migrating

import (
	"context"
	"encoding/json"
	"log"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Limits is what the program reads from a key.
type Limits struct {
	Rate int `json:"rate"`
}

func oldLimits(ctx context.Context, client *clientv3.Client, key string) (*atomic.Pointer[Limits], error) {
	var limits atomic.Pointer[Limits]
	resp, err := client.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		l := &Limits{}
		if err := json.Unmarshal(kv.Value, l); err != nil {
			return nil, err
		}
		limits.Store(l)
	}
	go func() {
		for resp := range client.Watch(ctx, key) {
			for _, ev := range resp.Events {
				l := &Limits{}
				if err := json.Unmarshal(ev.Kv.Value, l); err != nil {
					log.Print(err)
					continue
				}
				limits.Store(l)
			}
		}
	}()
	return &limits, nil
}
