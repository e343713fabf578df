package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
)

// Queues returns the names of all queues that have any key in etcd: a job, a dead letter, a worker, a pause. A queue that is none of these is
// not there. That somebody has pushed lately does not count.
//
// It takes one or two small reads for each queue, and one more. Each takes etcd time that grows with the number of keys that all queues have.
func Queues(ctx context.Context, client *clientv3.Client) ([]string, error) {
	var found []string
	for from, to := prefixOf(Root); ; {
		resp, err := call.Do(ctx, client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return client.KV.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		})
		if err != nil {
			return nil, fmt.Errorf("queue: names: %w", err)
		}
		if len(resp.Kvs) == 0 {
			break
		}
		key := string(resp.Kvs[0].Key)
		name, ok := nameIn(key)
		if !ok {
			from = key + "\x00"
			continue
		}
		if slots := layoutOf(name).pushed(); strings.HasPrefix(key, slots) { // is there anything else?
			_, from = prefixOf(slots)
			continue
		}
		if names.Path("queue", name) == nil {
			found = append(found, name)
		}
		_, from = prefixOf(string(layoutOf(name)))
	}
	slices.Sort(found)
	return found, nil
}

// nameIn is the name of the queue that a key is of. A name may begin with a slash, so the two that end it come after its first byte.
func nameIn(key string) (string, bool) {
	rest := strings.TrimPrefix(key, Root)
	if rest == "" {
		return "", false
	}
	i := strings.Index(rest[1:], "//")
	if i < 0 {
		return "", false
	}
	return rest[:i+1], true
}
