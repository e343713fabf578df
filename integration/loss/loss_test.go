// Package loss_test asks the question that a lock stands or falls with: when an owner is cut off, is it told
// before the next owner goes on? It asks it many times, of ours and of etcd's own concurrency package side by side.
package loss_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// atOnce is how many partitions go on at a time: most of one is waiting.
const atOnce = 8

// partition is one way of cutting an owner off.
type partition struct {
	ttl     time.Duration
	latency [2]time.Duration // each way, from and to
	cut     etcdtest.Direction
	after   time.Duration // from acquiring to the cut: which part of a renewal period it falls into
}

func (p partition) String() string {
	ways := map[etcdtest.Direction]string{etcdtest.Both: "both ways", etcdtest.Requests: "requests", etcdtest.Responses: "responses"}
	return fmt.Sprintf("TTL %v, latency %v to %v each way, %s cut after %v", p.ttl, p.latency[0], p.latency[1], ways[p.cut], p.after)
}

// schedule is what the runs will do, from a seed.
func schedule(seed uint64, runs int) []partition {
	rng := rand.New(rand.NewPCG(seed, 0))
	latencies := [][2]time.Duration{
		{0, 0},
		{20 * time.Millisecond, 60 * time.Millisecond},
		{100 * time.Millisecond, 300 * time.Millisecond},
	}
	cuts := []etcdtest.Direction{etcdtest.Both, etcdtest.Both, etcdtest.Requests, etcdtest.Responses}
	out := make([]partition, runs)
	for i := range out {
		ttl := time.Duration(2+rng.IntN(4)) * time.Second
		out[i] = partition{
			ttl:     ttl,
			latency: latencies[i%len(latencies)],
			cut:     cuts[rng.IntN(len(cuts))],
			// From most of a TTL, so that renewals carry the lease, to a renewal period more.
			after: ttl*2/3 + time.Duration(rng.Int64N(int64(ttl/3))),
		}
	}
	return out
}

// outcome is what came of one partition for one kind of owner: by how much the old one was told before the next held.
// Negative is late.
type outcome struct {
	ahead time.Duration
	err   error
}

// The measured lateness of concurrency.Session is why etcdkit has a session of its own. ETCDKIT_LOSS_RUNS sets the number of
// partitions, ETCDKIT_LOSS_SEED the schedule.
func TestAnOwnerThatIsCutOffIsToldBeforeTheNextOneHolds(t *testing.T) {
	runs := fromEnv(t, "ETCDKIT_LOSS_RUNS", 24)
	seed := uint64(fromEnv(t, "ETCDKIT_LOSS_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("%d partitions, ETCDKIT_LOSS_SEED=%d", runs, seed)

	// One member: there is no leader to change, which would renew every lease.
	cluster := etcdtest.New(t, nil)
	ours, theirs := make([]outcome, runs), make([]outcome, runs)
	var (
		going sync.WaitGroup
		slots = make(chan struct{}, atOnce)
	)
	for i, p := range schedule(seed, runs) {
		// Links and clients are made here, where the test may fail.
		a, b := newParties(cluster), newParties(cluster)
		slots <- struct{}{}
		going.Go(func() {
			defer func() { <-slots }()
			name := fmt.Sprintf("loss-%d", i)
			var both sync.WaitGroup
			both.Go(func() { ours[i] = a.run(t.Context(), p, name, etcdkitOwner) })
			both.Go(func() { theirs[i] = b.run(t.Context(), p, name+"-concurrency", concurrencyOwner) })
			both.Wait()
			t.Logf("run %d: %v: told before the next held by %v; concurrency by %v", i, p, ours[i], theirs[i])
		})
	}
	going.Wait()

	late := report(t, "etcdkit", ours)
	lateTheirs := report(t, "concurrency", theirs)
	if late > 0 {
		t.Errorf("%d of %d owners were told of their loss when the next one held already", late, runs)
	}
	if lateTheirs*5 < runs {
		t.Errorf("concurrency.Session was late in %d of %d runs only: these partitions prove nothing", lateTheirs, runs)
	}
}

// report logs how one kind of owner did, and returns how many were late.
func report(t *testing.T, who string, outcomes []outcome) (late int) {
	var ahead []time.Duration
	for i, o := range outcomes {
		if o.err != nil {
			t.Errorf("%s, run %d: %v", who, i, o.err)
			continue
		}
		ahead = append(ahead, o.ahead)
		if o.ahead <= 0 {
			late++
		}
	}
	if len(ahead) == 0 {
		return late
	}
	slices.Sort(ahead)
	t.Logf("%-11s late in %d of %d; told before the next held by: least %v, median %v, most %v",
		who, late, len(ahead), ahead[0], ahead[len(ahead)/2], ahead[len(ahead)-1])
	return late
}

func (o outcome) String() string {
	if o.err != nil {
		return o.err.Error()
	}
	return o.ahead.Round(time.Millisecond).String()
}

// parties are the two sides of a partition: the owner on its link, and the next one beside it.
type parties struct {
	link        *etcdtest.Link
	owner, next *clientv3.Client
}

func newParties(c *etcdtest.Cluster) parties {
	link := c.Link(0)
	return parties{link: link, owner: link.Client(), next: c.Client()}
}

// owns acquires name through client and returns a channel that is closed when the owner is told of its loss, and
// how to give it back.
type owns func(ctx context.Context, client *clientv3.Client, name string, ttl time.Duration) (told <-chan struct{}, release func(), err error)

// run has one own and another wait, cuts the first off, and sees who knows first.
func (ps parties) run(ctx context.Context, p partition, name string, acquire owns) outcome {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if p.latency[1] > 0 {
		ps.link.Delay(etcdtest.Both, p.latency[0], p.latency[1])
	}
	told, release, err := acquire(ctx, ps.owner, name, p.ttl)
	if err != nil {
		return outcome{err: err}
	}
	defer release()

	type holding struct {
		at      time.Time
		release func()
		err     error
	}
	next := make(chan holding, 1)
	go func() {
		_, release, err := acquire(ctx, ps.next, name, p.ttl)
		next <- holding{time.Now(), release, err}
	}()

	select {
	case <-told:
		return outcome{err: fmt.Errorf("told of a loss before there was one")}
	case <-next:
		return outcome{err: fmt.Errorf("two held at once before anything was cut")}
	case <-time.After(p.after):
	}
	ps.link.Blackhole(p.cut)
	defer ps.link.Heal()

	toldAt := make(chan time.Time, 1)
	go func() {
		<-told
		toldAt <- time.Now()
	}()
	h := <-next
	if h.err != nil {
		return outcome{err: fmt.Errorf("next owner: %w", h.err)}
	}
	defer h.release()
	select {
	case at := <-toldAt:
		return outcome{ahead: h.at.Sub(at)}
	case <-ctx.Done():
		return outcome{err: fmt.Errorf("never told")}
	}
}

// etcdkitOwner owns through a session and a Mutex of ours.
func etcdkitOwner(ctx context.Context, client *clientv3.Client, name string, ttl time.Duration) (<-chan struct{}, func(), error) {
	s, err := session.Open(ctx, client, &session.Options{TTL: ttl})
	if err != nil {
		return nil, nil, err
	}
	held, err := lock.NewMutex(s, name).Lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	return held.Context().Done(), func() { _ = s.Close(ended()) }, nil
}

// concurrencyOwner owns through those that etcd ships.
func concurrencyOwner(ctx context.Context, client *clientv3.Client, name string, ttl time.Duration) (<-chan struct{}, func(), error) {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(int(ttl/time.Second)), concurrency.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	if err := concurrency.NewMutex(s, name).Lock(ctx); err != nil {
		return nil, nil, err
	}
	return s.Done(), s.Orphan, nil
}

// ended is a context with which a release is tried only briefly.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, v)
	}
	return n
}
