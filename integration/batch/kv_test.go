package batch_test

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestANamespaceIsKeptTo(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	w := open(t, namespace.NewKV(cli, p), nil)
	for _, key := range keys("", 200) {
		put(t, w, key, "v")
	}
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKeys(t, soon, cli, p, 200)
	applied(t, del(t, w, "00007"))
	etcdtest.WaitKeys(t, soon, cli, p, 199)
	// It makes keys longer than they were counted, and transactions larger.
	for _, key := range keys("large/", 128) {
		put(t, w, key, kib(12))
	}
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitKeys(t, soon, cli, p+"large/", 128)
}

func TestAGuardRefusesWhatComesTooLate(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	resp, err := cli.Put(t.Context(), p+"owner", "")
	if err != nil {
		t.Fatal(err)
	}
	g := fence.Guard{Key: p + "owner", Token: fence.Token(resp.Header.Revision)}
	for maxOps, want := range map[int]int{
		127: 2,
		128: 4, // 128 are refused, as the guard is an operation more; its halves, and the rest
	} {
		calls.Reset()
		w := open(t, g.KV(cli), &batch.Options{MaxOps: maxOps, Interval: never})
		for _, key := range keys(p, 200) {
			put(t, w, key, "v")
		}
		if err := flush(t, w); err != nil {
			t.Fatal(err)
		}
		if n := calls.Count("Txn"); n != want {
			t.Errorf("%d operations a transaction: %d transactions, want %d", maxOps, n, want)
		}
		etcdtest.WaitKeys(t, soon, cli, p+"0", 200)
	}

	etcdtest.Shared(t).Delete(g.Key)
	calls.Reset()
	w := open(t, g.KV(cli), &batch.Options{MaxOps: 127})
	late := []batch.Pending{put(t, w, p+"late", "v"), del(t, w, p+"00001")}
	if err := flush(t, w); !errors.Is(err, fence.ErrLost) {
		t.Errorf("Flush: %v", err)
	}
	for _, pending := range late {
		failed(t, pending, batch.ErrNotApplied, fence.ErrLost)
	}
	if get(t, cli, p+"late") != nil || get(t, cli, p+"00001") == nil {
		t.Error("what came too late was written")
	}
}
