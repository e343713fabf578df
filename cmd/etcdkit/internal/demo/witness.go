package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// witness watches everything that happens in etcd from its first revision on, with a plain client, until ctx ends. No
// code of etcdkit's has a part in it.
func witness(ctx context.Context, client *clientv3.Client, r *record) {
	for resp := range client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			r.fail(fmt.Errorf("watching etcd: %w", err))
			return
		}
		now := time.Now()
		var seen []write
		for _, ev := range resp.Events {
			seen = append(seen, write{
				at:       now,
				revision: ev.Kv.ModRevision,
				key:      string(ev.Kv.Key),
				value:    string(ev.Kv.Value),
				created:  ev.Kv.CreateRevision,
				version:  ev.Kv.Version,
				lease:    ev.Kv.Lease,
				deleted:  ev.Type == clientv3.EventTypeDelete,
			})
		}
		r.see(seen...)
	}
	if ctx.Err() == nil {
		r.fail(fmt.Errorf("watching etcd: closed"))
	}
}

// read returns the keys below a prefix, by what follows it, as a plain client finds them now.
func read(ctx context.Context, client *clientv3.Client, prefix string) (map[string]write, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", prefix, err)
	}
	found := map[string]write{}
	for _, kv := range resp.Kvs {
		found[strings.TrimPrefix(string(kv.Key), prefix)] = write{
			revision: kv.ModRevision,
			key:      string(kv.Key),
			value:    string(kv.Value),
			created:  kv.CreateRevision,
			version:  kv.Version,
			lease:    kv.Lease,
		}
	}
	return found, nil
}
