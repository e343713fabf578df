package batch_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"
	"google.golang.org/protobuf/proto"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// What etcd accepts in all, --max-request-bytes.
const serverLimit = 3 << 19

// largest is the largest value whose put takes n bytes of a transaction, of a key of less than 128 bytes. The fields of a large put have lengths of
// three bytes: value, put and operation; the key's has one.
func largest(key string, n int) string { return strings.Repeat("v", n-3*4-2-len(key)) }

func TestTheLargestOperationPassesAndALargerOneIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	const limit = serverLimit - 4<<10 // the default of MaxBytes
	w := open(t, cli, nil)
	_, err := w.Put(t.Context(), p+"k", largest(p+"k", limit+1))
	if !errors.Is(err, batch.ErrTooLarge) || !strings.Contains(err.Error(), "1568768") || calls.Count("Txn") != 0 {
		t.Errorf("a byte more than the limit: %v after %d transactions", err, calls.Count("Txn"))
	}
	applied(t, put(t, w, p+"k", largest(p+"k", limit)))

	// Where etcd itself draws the line, which the default leaves room to: the header of a request takes some 20 bytes, and
	// the user's name.
	w = open(t, cli, &batch.Options{MaxBytes: serverLimit})
	applied(t, put(t, w, p+"k", largest(p+"k", serverLimit-64)))
	failed(t, put(t, w, p+"k", largest(p+"k", serverLimit)), batch.ErrNotApplied, rpctypes.ErrRequestTooLarge)
}

func TestSizesAreThoseOfWhatIsSent(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	lease, err := cli.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		var (
			key    = p + strings.Repeat("k", random.IntN(400))
			value  = strings.Repeat("v", []int{0, 1, 127, 128, 16383, 16384, 100_000}[random.IntN(7)])
			opts   = batch.Options{Lease: []clientv3.LeaseID{0, lease.ID}[random.IntN(2)]}
			remove = random.IntN(4) == 0
			size   int
		)
		take := func(w *batch.Writer) (batch.Pending, error) {
			if remove {
				return w.Delete(t.Context(), key)
			}
			return w.Put(t.Context(), key, value)
		}
		see := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: func(m any) bool {
			size = proto.Size(m.(*pb.TxnRequest))
			return false
		}})
		pending, err := take(open(t, cli, &opts))
		if err != nil {
			t.Fatal(err)
		}
		applied(t, pending)
		see.Remove()

		opts.MaxBytes = size
		if pending, err = take(open(t, cli, &opts)); err != nil {
			t.Fatalf("an operation of %d bytes where %d may be sent: %v", size, size, err)
		}
		applied(t, pending)
		opts.MaxBytes = size - 1
		if _, err := take(open(t, cli, &opts)); !errors.Is(err, batch.ErrTooLarge) {
			t.Fatalf("an operation of %d bytes where %d may be sent: %v", size, size-1, err)
		}
	}
}

func TestNoTransactionIsLargerThanAllowed(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	const maxOps, maxBytes = 20, 10_000
	w := open(t, cli, &batch.Options{MaxOps: maxOps, MaxBytes: maxBytes})
	ops, bytes := 0, 0 // written to with calls' lock held
	see := calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: func(m any) bool {
		ops, bytes = max(ops, len(m.(*pb.TxnRequest).Success)), max(bytes, proto.Size(m.(*pb.TxnRequest)))
		return false
	}})
	for i, key := range keys(p, 1000) {
		put(t, w, key, strings.Repeat("v", i%1000))
	}
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	see.Remove()
	if ops > maxOps || bytes > maxBytes || ops < maxOps || bytes < maxBytes-1100 {
		t.Errorf("the largest transactions had %d operations and %d bytes, want nearly %d and %d", ops, bytes, maxOps, maxBytes)
	}
}

func TestAServerWithLowerLimitsGetsSmallerTransactions(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *config.ServerConfig) {
		cfg.MaxTxnOps = 10
		cfg.MaxRequestBytes = 64 << 10
	}})
	cli := c.Client()
	w := open(t, cli, nil)
	for _, key := range keys("many/", 128) {
		put(t, w, key, "v")
	}
	for _, key := range keys("large/", 60) {
		put(t, w, key, kib(5))
	}
	huge := put(t, w, "huge", kib(65))
	failed(t, huge, batch.ErrNotApplied, rpctypes.ErrRequestTooLarge)
	if err := flush(t, w); !errors.Is(err, rpctypes.ErrRequestTooLarge) || !strings.Contains(err.Error(), "huge") ||
		strings.Contains(err.Error(), "large/") {
		t.Errorf("Flush: %v, want the one that is too large", err)
	}
	for prefix, n := range map[string]int{"many/": 128, "large/": 60, "huge": 0} {
		etcdtest.WaitKeys(t, soon, cli, prefix, n)
	}
}

// The client has a limit of its own, of 2 MiB, which is met before anything is sent.
func TestTheClientsOwnLimitIsNoFateOfTheOthers(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *config.ServerConfig) { cfg.MaxRequestBytes = 8 << 20 }})
	w := open(t, c.Client(), &batch.Options{MaxBytes: 8 << 20, Interval: never})
	before, huge, after := put(t, w, "before", kib(1000)), put(t, w, "huge", kib(2100)), put(t, w, "after", kib(1000))
	err := flush(t, w)
	applied(t, before)
	applied(t, after)
	if _, why := fate(t, huge); !errors.Is(why, batch.ErrNotApplied) || !errors.Is(err, batch.ErrNotApplied) {
		t.Errorf("2100 KiB: %v; Flush: %v", why, err)
	}
}
