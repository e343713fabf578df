package batch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

func TestRepeatedKeysAreWrittenOnceAndShareAFate(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: never})
	var all []batch.Pending
	for i := range 100 {
		all = append(all, put(t, w, p+"k", strconv.Itoa(i)))
	}
	other := put(t, w, p+"other", "v")
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	rev := applied(t, other)
	for i, pending := range all {
		if got := applied(t, pending); got != rev || pending.Superseded() != (i < 99) {
			t.Errorf("operation %d: revision %d, want %d; superseded: %t", i, got, rev, pending.Superseded())
		}
	}
	if kv := get(t, cli, p+"k"); string(kv.Value) != "99" || kv.Version != 1 || calls.Count("Txn") != 1 {
		t.Errorf("%v, after %d transactions", kv, calls.Count("Txn"))
	}

	// A put that a deletion supersedes, and the other way round.
	first, second := put(t, w, p+"k", "v"), del(t, w, p+"k")
	third, fourth := del(t, w, p+"new"), put(t, w, p+"new", "v")
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	if !first.Superseded() || second.Superseded() || !third.Superseded() || fourth.Superseded() {
		t.Error("superseded are the wrong ones")
	}
	if get(t, cli, p+"k") != nil || get(t, cli, p+"new") == nil {
		t.Error("the last operation on a key is not the one that counts")
	}
}

// A write whose transaction is under way waits in etcd's client, and a later one on the same key must wait for it.
func TestAKeyInFlightHoldsUpItsNextWriteAndNoOther(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	p := etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: -1})
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: hold})
	first := put(t, w, p+"k", "1")
	etcdtest.Done(t, soon, "the first transaction", held.Hit())
	second, third := put(t, w, p+"k", "2"), put(t, w, p+"k", "3")
	applied(t, put(t, w, p+"other", "v"))
	etcdtest.Nothing(t, 20*time.Millisecond, "a fate before that of the operation before", third.Done())
	if kv := get(t, cli, p+"k"); kv != nil {
		t.Errorf("written past the first: %v", kv)
	}
	close(hold)
	if one, two, three := applied(t, first), applied(t, second), applied(t, third); one >= two || two != three {
		t.Errorf("revisions %d, %d, %d", one, two, three)
	}
	if first.Superseded() || !second.Superseded() || third.Superseded() {
		t.Error("superseded are the wrong ones")
	}
}

// An operation as it was made, for the judgement of history.
type made struct {
	key     string
	number  int // counts the operations on this key
	delete  bool
	pending batch.Pending
}

// storm has writers make operations on keys of their own, many on few keys: each goroutine writes its keys' numbers,
// counting up, and deletes now and then. Sometimes it waits for a fate, so that not everything coalesces.
func storm(t *testing.T, w *batch.Writer, prefix string, writers, keys, operations int) []made {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var (
		all  = make([][]made, writers)
		busy sync.WaitGroup
	)
	for i := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		busy.Go(func() {
			numbers := make([]int, keys)
			for range operations {
				k := random.IntN(keys)
				numbers[k]++
				m := made{key: fmt.Sprintf("%s%d-%d", prefix, i, k), number: numbers[k], delete: random.IntN(8) == 0}
				var err error
				if m.delete {
					m.pending, err = w.Delete(t.Context(), m.key)
				} else {
					m.pending, err = w.Put(t.Context(), m.key, strconv.Itoa(m.number))
				}
				if err != nil {
					t.Error(err)
					return
				}
				all[i] = append(all[i], m)
				if random.IntN(3) == 0 {
					<-m.pending.Done()
				}
			}
		})
	}
	busy.Wait()
	var flat []made
	for _, one := range all {
		flat = append(flat, one...)
	}
	return flat
}

// place is an event: each operation on a key is at most one at a revision.
type place struct {
	key string
	rev int64
}

// judge holds every fate against etcd's history of the keys, and counts them:
//
//   - what was applied at revision N is there at revision N, as it was made;
//   - what was superseded or not applied is nowhere;
//   - what was applied on a key is there in the order in which it was made. What is unknown may be anywhere: a request whose
//     connection broke may be carried out after the next one on the same key.
//
// A sole Writer may have written an operation several times.
func judge(t *testing.T, cli *clientv3.Client, prefix string, all []made, sole bool) (counts map[string]int) {
	t.Helper()
	var (
		known   = map[string]map[int]bool{} // by key, the numbers of the operations whose fate is known
		applied = map[string]int64{}        // the revision of the last operation on a key that was applied
	)
	counts = map[string]int{}
	for _, m := range all {
		if known[m.key] == nil {
			known[m.key] = map[int]bool{}
		}
		rev, err := fate(t, m.pending)
		known[m.key][m.number] = !errors.Is(err, batch.ErrUnknown)
		if err == nil {
			if rev < applied[m.key] {
				t.Errorf("%s: %d is applied at revision %d, before what was made before it, at %d", m.key, m.number, rev, applied[m.key])
			}
			applied[m.key] = rev
		}
	}

	var (
		there = map[place]int{}          // the number that was put there, or -1 for a deletion
		times = map[string]map[int]int{} // how often a number was put
		last  = map[string]int{}
	)
	for _, ev := range history(t, cli, prefix) {
		key, number := string(ev.Kv.Key), -1
		if ev.Type == clientv3.EventTypePut {
			number, _ = strconv.Atoi(string(ev.Kv.Value))
			if times[key] == nil {
				times[key] = map[int]int{}
			}
			times[key][number]++
			if known[key][number] {
				if number < last[key] || number == last[key] && !sole {
					t.Errorf("%s: %d is written after %d", key, number, last[key])
				}
				last[key] = number
			}
		}
		there[place{key, ev.Kv.ModRevision}] = number
	}

	for _, m := range all {
		rev, err := m.pending.Wait(t.Context())
		was, isThere := there[place{m.key, rev}]
		written := !m.delete && times[m.key][m.number] > 0
		switch {
		case m.pending.Superseded():
			counts["superseded"]++
			if written {
				t.Errorf("%s: %d is superseded, and was written", m.key, m.number)
			}
		case errors.Is(err, batch.ErrUnknown):
			counts["unknown"]++
		case errors.Is(err, batch.ErrNotApplied):
			counts["not applied"]++
			if written {
				t.Errorf("%s: %d is not applied (%v), and was written", m.key, m.number, err)
			}
		case err != nil:
			t.Errorf("%s: %d has no fate: %v", m.key, m.number, err)
		case m.delete:
			counts["applied"]++
			if isThere && was != -1 { // a deletion of nothing leaves no trace
				t.Errorf("%s: deletion %d is applied at revision %d, where %d was put", m.key, m.number, rev, was)
			}
		default:
			counts["applied"]++
			if !isThere || was != m.number {
				t.Errorf("%s: %d is applied at revision %d, where there is %d (%t)", m.key, m.number, rev, was, isThere)
			}
		}
	}
	t.Logf("%v", counts)
	return counts
}

// Small transactions and many of them in flight: etcd sees them in any order.
func TestOperationsOnAKeyAreAppliedInOrderThoughTransactionsOvertakeEachOther(t *testing.T) {
	t.Parallel()
	cli, p := etcdtest.Client(t), etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: -1, MaxOps: 3, InFlight: 16})
	all := storm(t, w, p, 8, 6, 400)
	if err := flush(t, w); err != nil {
		t.Fatal(err)
	}
	if counts := judge(t, cli, p, all, false); counts["applied"] < 500 || counts["superseded"] < 100 {
		t.Errorf("too little happened: %v", counts)
	}
}

// The same, while answers and requests are lost, and some are refused for now and some for good.
func TestEveryFateIsTrue(t *testing.T) {
	for _, sole := range []bool{false, true} {
		t.Run(fmt.Sprintf("sole=%t", sole), func(t *testing.T) {
			t.Parallel()
			cli, calls := counted(t)
			p := etcdtest.Prefix(t)
			for i := range 60 {
				f := etcdtest.Fault{Call: "Txn", Skip: i * 8, After: i%2 == 0}
				if i%4 == 1 {
					f.Err = rpctypes.ErrGRPCNoLeader
				}
				calls.Inject(f)
			}
			forbidden := func(key string) bool { return strings.HasSuffix(key, "-5") }
			calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Err: rpctypes.ErrGRPCPermissionDenied, Match: func(m any) bool {
				return slices.ContainsFunc(m.(*pb.TxnRequest).Success, func(op *pb.RequestOp) bool {
					return forbidden(string(op.GetRequestPut().GetKey())) || forbidden(string(op.GetRequestDeleteRange().GetKey()))
				})
			}})
			w := open(t, cli, &batch.Options{
				Interval: -1, MaxOps: 3, InFlight: 16, Sole: sole,
				Retry: retry.Policy{Initial: time.Millisecond, MaxElapsed: time.Minute},
			})
			all := storm(t, w, p, 8, 6, 300)
			err := flush(t, w)
			counts := judge(t, cli, p, all, sole)
			for _, m := range all {
				_, err := fate(t, m.pending)
				if err == nil == forbidden(m.key) && !errors.Is(err, batch.ErrUnknown) {
					t.Errorf("%s: %d: %v", m.key, m.number, err)
				}
			}
			// Sole, only what was forbidden after an answer had been lost is unknown.
			if counts["applied"] < 500 || counts["not applied"] == 0 || !sole && counts["unknown"] == 0 || sole && counts["unknown"] > 60 {
				t.Errorf("%v", counts)
			}
			if !sole && !errors.Is(err, batch.ErrUnknown) || !errors.Is(err, batch.ErrNotApplied) {
				t.Errorf("Flush: %v", err)
			}
		})
	}
}

// Connections that break under way: requests that were carried out and requests that were not.
func TestEveryFateIsTrueThoughConnectionsBreak(t *testing.T) {
	t.Parallel()
	link := etcdtest.NewLink(t, etcdtest.Endpoints()[0])
	cli, p := link.Client(), etcdtest.Prefix(t)
	w := open(t, cli, &batch.Options{Interval: -1, MaxOps: 3, InFlight: 16, Retry: retry.Policy{MaxElapsed: time.Minute}})
	over := make(chan struct{})
	var breaking sync.WaitGroup
	breaking.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				link.Drop()
			}
		}
	})
	all := storm(t, w, p, 8, 6, 400)
	close(over)
	breaking.Wait()
	err := flush(t, w)
	counts := judge(t, etcdtest.Client(t), p, all, false)
	if (counts["unknown"] > 0) != errors.Is(err, batch.ErrUnknown) || counts["applied"] == 0 {
		t.Errorf("%v; Flush: %v", counts, err)
	}
}
