package migrating

import (
	"context"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func oldCount(client *clientv3.Client, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	n := 0
	for _, kv := range resp.Kvs {
		n, _ = strconv.Atoi(string(kv.Value))
	}
	_, err = client.Put(ctx, key, strconv.Itoa(n+1))
	return err
}
