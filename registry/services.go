package registry

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
)

// Services returns the services that have instances, each with their number, whatever state they are in and whether or not
// their values can be read. It lists the keys below the prefix, all at one revision. ctx bounds it; it gives up by itself after
// 10 s. Of the options only the Prefix matters; nil means the defaults.
func Services(ctx context.Context, client *clientv3.Client, opts *ViewOptions) (map[string]int, error) {
	prefix := defaultPrefix
	if opts != nil && opts.Prefix != "" {
		prefix = opts.Prefix
	}
	if err := names.Path("prefix", prefix); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	prefix += "/"
	resp, err := call.Do(ctx, client, "list the services", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	all := map[string]int{}
	for _, kv := range resp.Kvs {
		key := string(kv.Key[len(prefix):])
		if at := strings.LastIndexByte(key, '/'); at > 0 && at < len(key)-1 {
			all[key[:at]]++
		}
	}
	return all, nil
}
