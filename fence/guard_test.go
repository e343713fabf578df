package fence_test

import (
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
)

// etcd reads a create revision of 0 as "this key does not exist": the guard of nobody would pass while nobody owns.
func TestAGuardThatNoAcquisitionMadeIsRefusedEverywhere(t *testing.T) {
	for _, g := range []fence.Guard{{}, {Key: "orders/1"}, {Token: 7}, {Key: "orders/1", Token: -7}} {
		// Nothing may be asked of the KV: there is none.
		kv := g.KV(nil)
		_, put := kv.Put(t.Context(), "k", "v")
		_, del := kv.Delete(t.Context(), "k")
		_, txn := kv.Txn(t.Context()).Then(clientv3.OpPut("k", "v")).Commit()
		_, do := kv.Do(t.Context(), clientv3.OpPut("k", "v"))
		_, commit := g.Commit(t.Context(), nil, clientv3.OpPut("k", "v"))
		for what, err := range map[string]error{"Put": put, "Delete": del, "Txn": txn, "Do": do, "Commit": commit} {
			if err == nil || errors.Is(err, fence.ErrLost) || !strings.Contains(err.Error(), "token below 1") {
				t.Errorf("%+v: %s: %v, want an error of its own that names the rule", g, what, err)
			}
		}
		func() {
			defer func() {
				if r := recover(); r == nil {
					t.Errorf("%+v: Cmp did not panic", g)
				}
			}()
			g.Cmp()
		}()
	}
}

func TestCmpComparesTheCreateRevisionOfTheKey(t *testing.T) {
	cmp := fence.Guard{Key: "orders/1", Token: 7}.Cmp()
	got := cmp.GetCompare()
	if string(got.Key) != "orders/1" || len(got.RangeEnd) != 0 || got.GetTarget() != pb.Compare_CREATE ||
		got.GetResult() != pb.Compare_EQUAL || got.GetCreateRevision() != 7 {
		t.Errorf("compares %v", got)
	}
}
