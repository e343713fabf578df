package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	stormWorkers   = 8
	stormProcesses = 2 // so many of the workers are processes of their own
	stormProducers = 4
	stormName      = "storm"

	// stormPrefetch is much, so that a job is a small part of a transaction.
	stormPrefetch = 48

	// stormEffects is where the effects of acknowledgements are, and stormCount is written with each.
	stormEffects = "effects/"
	stormCount   = "effects-count"

	// stormAttempts is MaxAttempts: more than faults take from a job that is done sooner or later.
	stormAttempts = 12

	// stormTTL is the workers' TTL. With the margin, who is late to learn of its loss on a busy machine is so before others own.
	stormTTL    = 3 * time.Second
	stormMargin = time.Second

	// stormSettled is how long the last jobs may take once all is well.
	stormSettled = 60 * time.Second
)

// stormItem is a job's item.
type stormItem struct{ N int }

// storm is a cluster, who pushes and works there, and what they see.
type storm struct {
	t         *testing.T
	cluster   *etcdtest.Cluster
	root      string
	record    *modelRecorder
	trail     *stormTrail
	strangers stormStrangers
	compact   int64            // the last compaction
	ways      []etcdtest.Links // the workers'
	workers   []*stormWorker
	processes []*stormProcess
	numbers   int // of workers so far
	producers []*stormProducer
	tags      atomic.Int64
	settled   atomic.Int64 // handlers that were done with a job
}

// stormFromEnv is a number that the environment may set.
func stormFromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, v, err)
	}
	return n
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	s := &storm{
		t: t, cluster: etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 30 * time.Millisecond}), record: newModelRecorder(),
		root: queue.Root + stormName + "//",
	}
	s.cluster.WaitLeader()
	s.trail = newStormTrail(t, s.cluster.Client(), s.root)
	for n := range stormWorkers {
		links := s.cluster.Links()
		s.ways = append(s.ways, links)
		if n < stormProcesses {
			s.processes = append(s.processes, &stormProcess{storm: s, links: links})
			continue
		}
		cli := links.Client()
		if n%2 == 0 {
			cli = links.Dial(clientv3.Config{DialOptions: retry.DialOptions(retry.Policy{})})
		}
		s.workers = append(s.workers, &stormWorker{
			index: s.numbers, queue: stormQueue(cli), record: s.record, settled: func(n int64) { s.settled.Add(n) },
		})
		s.numbers++
	}
	for n := range stormProducers {
		p := &stormProducer{storm: s, index: n, links: s.cluster.Links(), rng: rand.New(rand.NewPCG(seed, uint64(1+n)))}
		p.queue = stormQueue(p.links.Client())
		s.producers = append(s.producers, p)
	}
	return s
}

func stormQueue(cli *clientv3.Client) *queue.Queue[stormItem] {
	return queue.New(cli, stormName, &queue.Options[stormItem]{MaxAttempts: stormAttempts})
}

// oracle does something inside a member. It may fail: a lease may have expired before it is revoked.
func (s *storm) oracle(what string, do func(ctx context.Context, oracle *clientv3.Client) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	if err := do(ctx, s.cluster.Oracle(s.cluster.WaitLeader())); err != nil {
		s.t.Logf("%s: %v", what, err)
	}
}

// F1, F2, F4 to F9, F15: nothing is lost, nothing acknowledged twice, nobody owns beside another, effects are there once.
// ETCDKIT_QUEUE_JOBS is how many jobs there are (100,000, and under the race detector, where all is several times slower, 10,000),
// ETCDKIT_QUEUE_SECONDS over how long their pushes are spread (as fast as they
// go), ETCDKIT_QUEUE_SEED repeats the faults.
func TestNothingIsLostOrDoneTwiceWhateverHappens(t *testing.T) {
	seed := stormFromEnv(t, "ETCDKIT_QUEUE_SEED", rand.Uint64())
	otherwise := uint64(100_000)
	if costRace {
		otherwise /= 10
	}
	jobs := stormFromEnv(t, "ETCDKIT_QUEUE_JOBS", otherwise)
	spread := time.Duration(stormFromEnv(t, "ETCDKIT_QUEUE_SECONDS", 0)) * time.Second
	t.Logf("ETCDKIT_QUEUE_SEED=%d", seed)
	s := newStorm(t, seed)

	ctx, cancel := context.WithCancel(t.Context())
	var working, pushing sync.WaitGroup
	stop := sync.OnceFunc(func() { cancel(); pushing.Wait(); working.Wait() })
	defer stop()
	for _, w := range s.workers {
		working.Go(func() {
			if err := w.work(ctx); err != nil {
				t.Errorf("worker %d: %v", w.index, err)
			}
		})
	}
	for _, p := range s.processes {
		p.start()
	}
	pushed := make(chan struct{})
	for _, p := range s.producers {
		pushing.Go(func() { p.produce(ctx, int64(jobs), spread) })
	}
	go func() { pushing.Wait(); close(pushed) }()

	began := time.Now()
	episodes := s.rage(newStormSchedule(seed), pushed, int64(jobs))
	s.wake(time.Now().Add(stormAsleep))
	etcdtest.Done(t, stormSettled, "pushing the last", pushed)
	stormed := time.Since(began)
	func() {
		empty := false
		defer func() {
			if !empty {
				s.stuck()
			}
		}()
		etcdtest.WaitQueueEmpty(t, stormSettled, s.trail.client, stormName)
		empty = true
	}()
	quiet := time.Since(began)
	stop()
	for _, p := range s.processes {
		p.stop()
	}
	t.Logf("seed %d: %d episodes in %v, empty after %v: %.0f jobs a second", seed, episodes, stormed.Round(time.Millisecond),
		quiet.Round(time.Millisecond), float64(s.tags.Load())/quiet.Seconds())
	s.judge()
}

// rage has faults come and go until all is pushed and nearly all done, and returns how many there were.
func (s *storm) rage(schedule *stormSchedule, pushed <-chan struct{}, jobs int64) (episodes int) {
	s.t.Helper()
	for !s.t.Failed() {
		e := schedule.next()
		s.t.Logf("after %v, %d pushed and %d done: %v", s.record.now(), s.tags.Load(), s.settled.Load(), e)
		s.happens(e)
		episodes++
		stormPass(e.calm)
		s.wake(time.Now())
		select {
		case <-pushed:
			if s.settled.Load() >= jobs*95/100 {
				return episodes
			}
		default:
		}
	}
	return episodes
}

// wake has those processes go on that have been frozen for long enough.
func (s *storm) wake(now time.Time) {
	s.t.Helper()
	for _, p := range s.processes {
		p.thaw(now)
	}
}

// stormWorker is one who works, here or in a process of its own.
type stormWorker struct {
	index   int
	queue   *queue.Queue[stormItem]
	record  *modelRecorder
	settled func(n int64) // is told of jobs that are done with
}

// work works until ctx ends.
func (w *stormWorker) work(ctx context.Context) error {
	return w.queue.Work(ctx, &queue.WorkOptions{
		Concurrency: 16, Prefetch: stormPrefetch, Timeout: 2 * time.Second, DrainTimeout: 10 * time.Second,
		Backoff: retry.Policy{Initial: 20 * time.Millisecond, Max: 300 * time.Millisecond},
		Session: &session.Options{TTL: stormTTL, Margin: stormMargin},
	}, w.handle)
}

// errStorm is why a handler fails.
var errStorm = errors.New("not today")

// errStormForGood is why a handler fails that will always do so.
var errStormForGood = retry.Permanent(errors.New("for good"))

// handle does what a job's number says. One in twenty has an effect; few fail, are slow, or are more than a worker can take.
func (w *stormWorker) handle(ctx context.Context, d *queue.Delivery[stormItem]) error {
	n := d.Item.N
	r := w.record.deliver(d.Context(), modelDelivery{
		tag: n, id: d.ID, key: d.Key, attempt: d.Attempt, token: int64(d.Guard().Token), worker: w.index,
	})
	stop := context.AfterFunc(d.Context(), func() { w.record.told(r) })
	defer stop()
	switch kind := n % 1000; {
	case stormIsPoison(n):
		w.record.gives(r, modelBack)
		w.settled(int64(d.Attempt / stormAttempts))
		return errStorm
	case stormIsPermanent(n):
		w.record.gives(r, modelBack)
		w.settled(1)
		return errStormForGood
	case d.Attempt > 1:
	case kind < 30:
		w.record.gives(r, modelBack)
		return errStorm
	case kind < 50:
		w.record.gives(r, modelBack)
		err := d.Nack(ctx, time.Duration(n%5)*50*time.Millisecond)
		w.record.gave(r, stormOutcome(err), err)
		return err
	case kind < 53: // too slow
		<-ctx.Done()
		w.record.gives(r, modelBack)
		return ctx.Err()
	case kind < 56: // it does not look at its context until it is done
		select {
		case <-d.Context().Done():
		case <-time.After(1500 * time.Millisecond):
		}
		ctx = context.WithoutCancel(ctx)
	}
	return w.finish(ctx, d, r)
}

// finish is done with a job: one in twenty through Ack with its effect, some through Ack, most by returning nil.
func (w *stormWorker) finish(ctx context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error {
	n := d.Item.N
	var err error
	switch {
	case stormHasEffect(n):
		w.record.gives(r, modelEffect)
		err = d.Ack(ctx, clientv3.OpPut(fmt.Sprintf("%s%d/%d", stormEffects, n, r.token), ""), clientv3.OpPut(stormCount, ""))
	case n%10 == 5:
		w.record.gives(r, modelDone)
		err = d.Ack(ctx)
	default:
		w.record.gives(r, modelDone)
		w.settled(1)
		return nil
	}
	w.record.gave(r, stormOutcome(err), err)
	if err == nil {
		w.settled(1)
	}
	return err
}

func stormHasEffect(n int) bool   { return n%20 == 0 }
func stormIsPoison(n int) bool    { return n%1000 == 999 }
func stormIsPermanent(n int) bool { return n%1000 == 998 }

// stormOutcome is what a handler's call has come to.
func stormOutcome(err error) modelOutcome {
	switch {
	case err == nil:
		return modelAccepted
	case stormLost(err):
		return modelRefused
	default:
		return modelUnknown
	}
}

// stormKey is one of some ordering keys.
func stormKey(n int) string { return "key" + strings.Repeat("y", n%3) + strconv.Itoa(n%97) }
