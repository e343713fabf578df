package batch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

const (
	// soon is the patience with what has no bound of its own; a busy machine may need it.
	soon = 20 * time.Second

	// never is an interval that no test sees the end of: what goes out does so for another reason.
	never = time.Hour
)

// patient is the policy of what the tests themselves ask of etcd, which on a busy machine may take its time.
var patient = retry.Policy{Retryable: retry.Idempotent, AttemptTimeout: soon, MaxElapsed: 2 * soon}

// open opens a Writer for the test's time.
func open(t *testing.T, kv clientv3.KV, opts *batch.Options) *batch.Writer {
	t.Helper()
	w, err := batch.New(kv, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.Close(ctx) // the test may have closed it, or the way to etcd
	})
	return w
}

// counted opens a client of the shared cluster whose calls are counted, and may be made to fail.
func counted(t *testing.T) (*clientv3.Client, *etcdtest.Calls) {
	t.Helper()
	calls := &etcdtest.Calls{}
	return etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), calls
}

// put has the Writer take a put.
func put(t *testing.T, w *batch.Writer, key, value string) batch.Pending {
	t.Helper()
	p, err := w.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// del has the Writer take a deletion.
func del(t *testing.T, w *batch.Writer, key string) batch.Pending {
	t.Helper()
	p, err := w.Delete(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fate waits for an operation's fate.
func fate(t *testing.T, p batch.Pending) (int64, error) {
	t.Helper()
	etcdtest.Done(t, soon, "a fate", p.Done())
	return p.Wait(t.Context())
}

// applied fails the test unless the operation is applied, and returns the revision.
func applied(t *testing.T, p batch.Pending) int64 {
	t.Helper()
	rev, err := fate(t, p)
	if err != nil || rev == 0 {
		t.Fatalf("revision %d, %v, want applied", rev, err)
	}
	return rev
}

// failed fails the test unless the operation has the given fate, for the given reason.
func failed(t *testing.T, p batch.Pending, verdict, reason error) {
	t.Helper()
	rev, err := fate(t, p)
	if rev != 0 || !errors.Is(err, verdict) || !errors.Is(err, reason) {
		t.Errorf("revision %d, %v, want %v because of %v", rev, err, verdict, reason)
	}
	if errors.Is(err, batch.ErrUnknown) == errors.Is(err, batch.ErrNotApplied) {
		t.Errorf("%v is both, or neither", err)
	}
}

// flush waits until all is done, and returns what Flush does.
func flush(t *testing.T, w *batch.Writer) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	err := w.Flush(ctx)
	if ctx.Err() != nil {
		t.Fatal(err)
	}
	return err
}

// get returns a key as etcd has it, or nil.
func get(t *testing.T, cli *clientv3.Client, key string) *mvccpb.KeyValue {
	t.Helper()
	resp, err := retry.Value(t.Context(), patient, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return cli.Get(ctx, key)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0]
}

// history returns every event under a prefix, in order.
func history(t *testing.T, cli *clientv3.Client, prefix string) []*clientv3.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	end, err := retry.Value(ctx, patient, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return cli.Put(ctx, prefix+"\xff", "")
	})
	if err != nil {
		t.Fatal(err)
	}
	var events []*clientv3.Event
	for resp := range cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision == end.Header.Revision {
				return events
			}
			events = append(events, ev)
		}
	}
	t.Fatalf("the history under %q was not read within %v", prefix, 3*soon)
	panic("unreachable")
}

// keys returns n keys under a prefix.
func keys(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return all
}

// kib is a value of n KiB.
func kib(n int) string { return strings.Repeat("v", n<<10) }
