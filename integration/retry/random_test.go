package retry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// seeded returns a source of random numbers. ETCDKIT_RETRY_SEED repeats a run's.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("ETCDKIT_RETRY_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ETCDKIT_RETRY_SEED: %v", err)
		}
	}
	t.Logf("ETCDKIT_RETRY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// F5 and F24 together: writers count up one number, each step by a transaction that also leaves a key of its own behind, while
// answers are lost, requests refused and connections broken at random. What Commit says of a step is so, and the number is that of
// the steps that were applied.
func TestManyWritersUnderRandomFaultsCountExactlyOnce(t *testing.T) {
	t.Parallel()
	const writers, steps = 4, 25
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	link := etcdtest.Shared(t).Link(0)
	cli := dial(t, retry.Policy{Initial: 10 * time.Millisecond, Budget: &retry.Budget{Burst: 10000}}, link.Endpoint())
	mustPut(t, cli, prefix+"number", "0")

	random := seeded(t) // used by the matches only, which are called one at a time
	for _, fault := range []struct {
		call  string
		share float64
		after bool
		err   error
	}{
		{"Txn", 0.1, true, nil},
		{"Txn", 0.1, false, nil},
		{"Txn", 0.05, true, answer(codes.Canceled)},
		{"Txn", 0.05, true, answer(codes.DeadlineExceeded)},
		{"Txn", 0.05, true, rpctypes.ErrGRPCTimeout},
		{"Txn", 0.05, false, rpctypes.ErrGRPCNoLeader},
		{"Range", 0.1, false, nil},
		{"Range", 0.05, false, rpctypes.ErrGRPCLeaderChanged},
	} {
		cli.wire.Inject(etcdtest.Fault{
			Call: fault.call, Times: -1, After: fault.after, Err: fault.err,
			Match: func(any) bool { return random.Float64() < fault.share },
		})
	}

	var (
		mu       sync.Mutex // guards outcomes
		outcomes = make(map[string]retry.Outcome)
		wg       sync.WaitGroup
	)
	step := func(ctx context.Context, id string) (retry.Outcome, error) {
		resp, err := cli.Get(ctx, prefix+"number")
		if err != nil {
			return retry.NotApplied, nil //nolint:nilerr // nothing was sent: the next step is another try
		}
		n, err := strconv.Atoi(string(resp.Kvs[0].Value))
		if err != nil {
			return retry.NotApplied, err
		}
		own := prefix + "step/" + id
		r, err := retry.Commit(ctx, cli,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(prefix+"number"), "=", resp.Kvs[0].ModRevision)},
			[]clientv3.Op{clientv3.OpPut(prefix+"number", strconv.Itoa(n+1)), clientv3.OpPut(own, "")},
			mine(cli, own, ""))
		if r.Outcome == retry.Unknown && !retry.Ambiguous(err) {
			return r.Outcome, fmt.Errorf("unknown, but not ambiguous: %w", err)
		}
		return r.Outcome, nil
	}
	for w := range writers {
		wg.Go(func() {
			for applied, try := 0, 0; applied < steps && try < 20*steps; try++ {
				id := fmt.Sprintf("%d-%d", w, try)
				outcome, err := step(t.Context(), id)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				outcomes[id] = outcome
				mu.Unlock()
				if outcome == retry.Applied {
					applied++
				}
				if try%16 == 15 {
					link.Drop()
				}
			}
		})
	}
	wg.Wait()

	resp, err := oracle.Get(t.Context(), prefix+"step/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, kv := range resp.Kvs {
		there[string(kv.Key)[len(prefix+"step/"):]] = true
		if kv.Version != 1 {
			t.Errorf("%s was applied %d times", kv.Key, kv.Version)
		}
	}
	counts := make(map[retry.Outcome]int)
	for id, outcome := range outcomes {
		counts[outcome]++
		if outcome == retry.Applied && !there[id] || outcome == retry.NotApplied && there[id] {
			t.Errorf("step %s is %v, but its key is there: %t", id, outcome, there[id])
		}
	}
	t.Logf("%v; wire %v", counts, cli.wire.Counts())
	if number, _ := mustGet(t, oracle, prefix+"number"); number != strconv.Itoa(len(there)) {
		t.Errorf("the number is %s after %d steps", number, len(there))
	}
	if counts[retry.Applied] < writers*steps {
		t.Errorf("%d steps were applied, want %d", counts[retry.Applied], writers*steps)
	}
}
