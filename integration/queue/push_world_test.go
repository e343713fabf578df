package queue_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// pushSoon is the patience with what has no bound of its own.
const pushSoon = 10 * time.Second

// pushQueue returns a queue of its own on a client whose calls are seen.
func pushQueue(t *testing.T, opts *queue.Options[string]) (*queue.Queue[string], *etcdtest.Calls, *clientv3.Client) {
	t.Helper()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	return queue.New(cli, pushName(t), opts), calls, cli
}

func pushName(t *testing.T) string { return strings.TrimSuffix(etcdtest.Prefix(t), "/") }

// pushed is a job as etcd has it.
type pushed struct {
	key     string
	place   string // the end of key
	created int64
	version int64
	header  map[string]any
	item    string
}

// pushedJobs are the jobs of a queue, in the order of their keys.
func pushedJobs(t *testing.T, cli *clientv3.Client, name string) []pushed {
	t.Helper()
	prefix := queue.Root + name + "//" + "line/jobs/"
	var jobs []pushed
	for _, kv := range pushGet(t, cli, prefix, clientv3.WithPrefix()).Kvs {
		head, item, ok := strings.Cut(string(kv.Value), "\n")
		j := pushed{string(kv.Key), strings.TrimPrefix(string(kv.Key), prefix), kv.CreateRevision, kv.Version, map[string]any{}, item}
		if head != "" {
			ok = ok && json.Unmarshal([]byte(head), &j.header) == nil
		}
		if !ok || kv.Lease != 0 {
			t.Fatalf("%q is no job: %q, lease %x", kv.Key, head, kv.Lease)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func pushGet(t *testing.T, cli *clientv3.Client, key string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pushSoon)
	defer cancel()
	resp, err := cli.Get(ctx, key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// pushDone deletes all jobs of a queue, as if they were done, and what names them.
func pushDone(t *testing.T, cli *clientv3.Client, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pushSoon)
	defer cancel()
	root := queue.Root + name + "//"
	if _, err := cli.Txn(ctx).Then(
		clientv3.OpDelete(root+"line/jobs/", clientv3.WithPrefix()), clientv3.OpDelete(root+"ids/", clientv3.WithPrefix()),
	).Commit(); err != nil {
		t.Fatal(err)
	}
}

// pushItems are n short items, each another.
func pushItems(n int) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = strings.Repeat("i", i%7) + string(rune('a'+i%26))
	}
	return items
}

// pushedInOrder fails the test unless the queue holds the items in their order, each under its ID, and none was there before the one
// before it.
func pushedInOrder(t *testing.T, cli *clientv3.Client, name string, ids, items []string) []pushed {
	t.Helper()
	jobs := pushedJobs(t, cli, name)
	if len(jobs) != len(items) || len(ids) != len(items) {
		t.Fatalf("%d jobs, %d IDs, want %d", len(jobs), len(ids), len(items))
	}
	for i, j := range jobs {
		var item string
		if err := json.Unmarshal([]byte(j.item), &item); err != nil {
			t.Fatal(err)
		}
		if item != items[i] || !strings.Contains(j.place, "/"+ids[i]) || j.version != 1 {
			t.Fatalf("place %d has %.20q under %q in version %d, want %.20q under %q", i, item, j.place, j.version, items[i], ids[i])
		}
		if i > 0 && j.created < jobs[i-1].created {
			t.Fatalf("job %d was there at %d, the one before it at %d", i, j.created, jobs[i-1].created)
		}
	}
	return jobs
}
