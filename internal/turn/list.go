package turn

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// List returns the keys of a line with their values, the owner's first, as of one revision.
func List(ctx context.Context, client *clientv3.Client, prefix string) ([]*mvccpb.KeyValue, error) {
	return oldest(ctx, client, prefix)
}

// Standing is one place as others see it.
type Standing struct {
	*mvccpb.KeyValue
	Share Share
	Owns  bool
	Slot  int // -1 for none
}

// Inspect returns who stands in a line, in order, as of one revision.
func Inspect(ctx context.Context, client *clientv3.Client, prefix string) ([]Standing, error) {
	all, err := readLine(ctx, client, prefix)
	if err != nil {
		return nil, err
	}
	return Standings(prefix, all), nil
}

// Standings returns who stands in a line, in order, given all keys below its prefix as of one revision, the oldest first. Keys of lines
// further below may be among them.
func Standings(prefix string, all []*mvccpb.KeyValue) []Standing {
	var (
		line  []Standing
		f     filling
		slots = map[string]int{}
	)
	for _, kv := range all {
		if slot, of, ok := slotOf(prefix, kv); ok {
			slots[of] = slot
		}
	}
	for _, kv := range all {
		if !InLine(prefix, string(kv.Key)) {
			continue
		}
		s := Standing{KeyValue: kv, Share: ShareOf(prefix, string(kv.Key)), Slot: -1}
		s.Owns = f.add(s.Share)
		if slot, numbered := slots[slotValue(string(kv.Key), kv.CreateRevision)]; numbered {
			s.Slot = slot
		}
		line = append(line, s)
	}
	return line
}

// Owner returns the key that owns a line, or nil if nobody stands in it.
func Owner(ctx context.Context, client *clientv3.Client, prefix string) (*mvccpb.KeyValue, error) {
	// A few, since the oldest keys may be those of lines further below.
	line, err := oldest(ctx, client, prefix, clientv3.WithLimit(seen))
	if err == nil && len(line) == 0 {
		line, err = oldest(ctx, client, prefix)
	}
	if err != nil || len(line) == 0 {
		return nil, err
	}
	return line[0], nil
}

// oldest reads keys of a line in the order in which they came.
func oldest(ctx context.Context, client *clientv3.Client, prefix string, opts ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	all, err := readLine(ctx, client, prefix, opts...)
	return inLine(prefix, all), err
}

// readLine reads keys below a line's prefix, the oldest first.
func readLine(ctx context.Context, client *clientv3.Client, prefix string, opts ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	resp, err := call.Do(ctx, client, "read the line", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, prefix, byAge(opts...)...)
	})
	if err != nil {
		return nil, err
	}
	return resp.Kvs, nil
}

// byAge are the options of a read of a line, the oldest key first.
func byAge(opts ...clientv3.OpOption) []clientv3.OpOption {
	return append(opts, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
}

// inLine drops the keys of lines further below.
func inLine(prefix string, kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	return slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool { return !InLine(prefix, string(kv.Key)) })
}
