package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// adminSoon bounds what takes milliseconds on a quiet machine.
const adminSoon = 20 * time.Second

// adminWorld is a queue of texts, of which the keys are written by hand, as docs/keys.md says.
type adminWorld struct {
	t    *testing.T
	cli  *clientv3.Client // whose calls do not fail
	name string
	root string
	q    *queue.Queue[string]
	n    int
}

// adminQueue makes one. q uses client, or one that nothing happens to if that is nil.
func adminQueue(t *testing.T, client *clientv3.Client) *adminWorld {
	t.Helper()
	w := &adminWorld{t: t, cli: etcdtest.Client(t), name: strings.TrimSuffix(etcdtest.Prefix(t), "/")}
	if client == nil {
		client = w.cli
	}
	w.root = queue.Root + w.name + "//"
	w.q = w.on(client)
	return w
}

func (w *adminWorld) on(client *clientv3.Client) *queue.Queue[string] {
	return queue.New(client, w.name, &queue.Options[string]{Codec: codec.String()})
}

func (w *adminWorld) put(key, value string) {
	w.t.Helper()
	if _, err := w.cli.Put(w.t.Context(), w.root+key, value); err != nil {
		w.t.Fatal(err)
	}
}

// get is what a key holds, or "-".
func (w *adminWorld) get(key string) string {
	w.t.Helper()
	resp, err := w.cli.Get(w.t.Context(), w.root+key)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "-"
	}
	return string(resp.Kvs[0].Value)
}

// names are the keys below a prefix.
func (w *adminWorld) names(prefix string) []string {
	w.t.Helper()
	resp, err := w.cli.Get(w.t.Context(), w.root+prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, kv := range resp.Kvs {
		all = append(all, strings.TrimPrefix(string(kv.Key), w.root+prefix))
	}
	return all
}

// stem is a new place's.
func (w *adminWorld) stem(at time.Time) string {
	w.n++
	return fmt.Sprintf("%013x-%08d", at.UnixMicro()+int64(w.n), w.n)
}

// job puts a job, and returns its path.
func (w *adminWorld) job(priority int, at time.Time, header, item string) string {
	w.t.Helper()
	path := fmt.Sprintf("%03d/%s", 100-priority, w.stem(at))
	if at.After(time.Now()) {
		path += "-d"
	}
	w.put("line/jobs/"+path, header+"\n"+item)
	return path
}

func (w *adminWorld) claim(path, worker string) {
	w.t.Helper()
	w.put("line/claims/"+path, worker)
}

// many writes keys, 100 in a transaction.
func (w *adminWorld) many(keys map[string]string) {
	w.t.Helper()
	var ops []clientv3.Op
	for k, v := range keys {
		ops = append(ops, clientv3.OpPut(w.root+k, v))
	}
	for chunk := range slices.Chunk(ops, 100) {
		if _, err := w.cli.Txn(w.t.Context()).Then(chunk...).Commit(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// adminOwn is a queue in an etcd of its own, on a client whose calls can fail.
func adminOwn(t *testing.T) (*etcdtest.Calls, *adminWorld) {
	t.Helper()
	cluster, calls := etcdtest.New(t, nil), &etcdtest.Calls{}
	w := &adminWorld{t: t, cli: cluster.Client(), name: "mail", root: queue.Root + "mail//"}
	w.q = w.on(cluster.Dial(clientv3.Config{DialOptions: calls.DialOptions()}))
	return calls, w
}

// adminCalls is a client whose calls are counted and can fail.
func adminCalls(t *testing.T) (*etcdtest.Calls, *clientv3.Client) {
	t.Helper()
	calls := &etcdtest.Calls{}
	return calls, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
}

// adminWrites reports whether a message is a transaction that may write, on any level.
func adminWrites(message any) bool {
	txn, is := message.(*pb.TxnRequest)
	return is && slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool {
		return op.GetRequestPut() != nil || op.GetRequestDeleteRange() != nil || op.GetRequestTxn() != nil
	})
}

// stats is what is counted anew.
func (w *adminWorld) stats() queue.Stats {
	w.t.Helper()
	s, err := w.on(w.cli).Stats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// adminGone is a client of an etcd that is not there.
func adminGone(t *testing.T) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}
