package retry

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWhichTransactionsCannotBeAppliedTwice(t *testing.T) {
	t.Parallel()
	type (
		cmps = []clientv3.Cmp
		ops  = []clientv3.Op
	)
	mod := func(r int64) clientv3.Cmp { return clientv3.Compare(clientv3.ModRevision("k"), "=", r) }
	created := func(r int64) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision("k"), "=", r) }
	version := func(v int64) clientv3.Cmp { return clientv3.Compare(clientv3.Version("k"), "=", v) }
	put, del := clientv3.OpPut("k", "v"), clientv3.OpDelete("k")
	for _, c := range []struct {
		name string
		cmps cmps
		ops  ops
		want bool
	}{
		{"nothing", nil, nil, false},
		{"no comparison", nil, ops{put}, false},
		{"as it was read, put", cmps{mod(7)}, ops{put}, true},
		{"as it was read, deleted", cmps{mod(7)}, ops{del}, true},
		{"not there, put", cmps{mod(0)}, ops{put}, true},
		{"not there, deleted", cmps{mod(0)}, ops{del}, false},
		{"not created, put", cmps{created(0)}, ops{put}, true},
		{"not created, deleted", cmps{created(0)}, ops{del}, false},
		{"still that one, put", cmps{created(7)}, ops{put}, false},
		{"still that one, deleted", cmps{created(7)}, ops{del}, true},
		{"no version, put", cmps{version(0)}, ops{put}, true},
		{"that version, put", cmps{version(3)}, ops{put}, false},
		{"that value, put", cmps{clientv3.Compare(clientv3.Value("k"), "=", "old")}, ops{put}, false},
		{"that lease, put", cmps{clientv3.Compare(clientv3.LeaseValue("k"), "=", 1)}, ops{put}, false},
		{"at most that revision, put", cmps{clientv3.Compare(clientv3.ModRevision("k"), "<", 8)}, ops{put}, false},
		{"not that revision, put", cmps{clientv3.Compare(clientv3.ModRevision("k"), "!=", 8)}, ops{put}, false},
		{"another key", cmps{clientv3.Compare(clientv3.ModRevision("other"), "=", 0)}, ops{put}, false},
		{"a range", cmps{mod(0).WithPrefix()}, ops{put}, false},
		{"a range of deletions", cmps{mod(7)}, ops{clientv3.OpDelete("k", clientv3.WithPrefix())}, false},
		{"a read", cmps{mod(7)}, ops{clientv3.OpGet("k")}, false},
		{"one of many", cmps{version(3), mod(7)}, ops{clientv3.OpPut("other", ""), put}, true},
		{"in a nested transaction", cmps{mod(7)}, ops{clientv3.OpTxn(nil, ops{put}, nil)}, false},
	} {
		if got := stopsHolding(c.cmps, c.ops); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
