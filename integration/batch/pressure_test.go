package batch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// fill puts keys until one has to wait for room, and returns those that were taken, by key. The patience with one put
// must be so long that a busy machine does not make it look like a wait.
func fill(t *testing.T, w *batch.Writer, prefix, value string) map[string]batch.Pending {
	t.Helper()
	taken := map[string]batch.Pending{}
	for i := range 100_000 {
		key := fmt.Sprintf("%s%05d", prefix, i)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		p, err := w.Put(ctx, key, value)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return taken
		}
		if err != nil {
			t.Fatal(err)
		}
		taken[key] = p
	}
	t.Fatal("nothing ever waits")
	return nil
}

func TestPutWaitsForRoomWhileEtcdIsSilent(t *testing.T) {
	t.Parallel()
	link := etcdtest.NewLink(t, etcdtest.Endpoints()[0])
	cli, p := link.Client(), etcdtest.Prefix(t)
	const maxBuffered = 1 << 20
	w := open(t, cli, &batch.Options{
		MaxBytes: 64 << 10, MaxBuffered: maxBuffered, InFlight: 2,
		Retry: retry.Policy{AttemptTimeout: time.Minute, MaxElapsed: time.Minute},
	})
	applied(t, put(t, w, p+"before", "v"))

	link.Blackhole(etcdtest.Both)
	value := strings.Repeat("v", 10_000)
	taken := fill(t, w, p, value)
	if n := len(taken); n*len(value) > maxBuffered || (n+2)*(len(value)+300) < maxBuffered {
		t.Errorf("%d operations of %d bytes were taken, want what fills %d", n, len(value), maxBuffered)
	}

	// What waits in vain is not taken, and says why.
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller has lost interest")
	waits := make(chan error)
	go func() {
		_, err := w.Put(ctx, p+"given up", value)
		waits <- err
	}()
	etcdtest.Nothing(t, 20*time.Millisecond, "room", waits)
	cancel(cause)
	if err := etcdtest.Receive(t, soon, "the end of a wait for room", waits); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("%v, want that of the context", err)
	}

	// What goes on waiting is taken once there is room.
	var (
		all  sync.WaitGroup
		late = make([]batch.Pending, 50)
	)
	for i := range late {
		all.Go(func() {
			var err error
			if late[i], err = w.Put(t.Context(), fmt.Sprintf("%slate-%d", p, i), value); err != nil {
				t.Error(err)
			}
		})
	}
	link.Heal()
	all.Wait()
	for _, pending := range taken {
		applied(t, pending)
	}
	for _, pending := range late {
		applied(t, pending)
	}
	direct := etcdtest.Client(t)
	if kv := get(t, direct, p+"given up"); kv != nil {
		t.Errorf("what was not taken is in etcd: %v", kv)
	}
	etcdtest.WaitKeys(t, soon, direct, p, 1+len(taken)+len(late))
}

func TestNoMoreTransactionsAreInFlightThanAllowed(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{InFlight: 3, MaxOps: 10, Interval: -1})
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Hold: hold})
	for _, key := range keys(p, 200) {
		put(t, w, key, "v")
	}
	calls.WaitCount(t, soon, "Txn", 3)
	calls.Quiet(t, 50*time.Millisecond)
	held.Remove()
	close(hold)
	if err := flush(t, w); err != nil {
		t.Error(err)
	}
	etcdtest.WaitKeys(t, soon, cli, p, 200)
}

func TestAThousandRowsAreEightTransactions(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never})
	for _, key := range keys(p, 1000) {
		put(t, w, key, "v")
	}
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	if got := calls.Counts(); got["Txn"] != 8 || len(got) != 1 {
		t.Errorf("calls: %v", got)
	}
	calls.Quiet(t, 50*time.Millisecond)
	etcdtest.WaitKeys(t, soon, etcdtest.Client(t), p, 1000)
}
