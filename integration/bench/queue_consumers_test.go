package bench_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// consumers is how many work at a queue, each on a client of its own, a job at a time.
const consumers = 16

// BenchmarkQueueConsumers is a job claimed, handled by who returns at once, and acknowledged, by any of 16 consumers that all want
// one all the time, while so many wait. wasted-% is how many of the transactions that were to claim something claimed nothing.
func BenchmarkQueueConsumers(b *testing.B) {
	for _, depth := range depths(b, 100, 50_000) {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			c := etcdtest.New(b, nil)
			b.Run("impl="+ours, func(b *testing.B) {
				var (
					claims  claimCount
					clients = make([]*clientv3.Client, consumers)
				)
				for i := range clients {
					clients[i] = c.Dial(clientv3.Config{DialOptions: claims.DialOptions()})
				}
				l := newLine(c, b, ours)
				l.fill(b, depth)
				another, stop := l.keep(b)
				crew := newCrew(b, clients, l, queue.WorkOptions{Concurrency: 1, Prefetch: -1}, another)
				for range 10 * consumers { // all are at work when the clock starts
					crew.turn()
				}
				claims.reset()
				for b.Loop() {
					crew.turn()
				}
				claims.report(b)
				crew.stop()
				stop()
				l.check(b)
			})
			b.Run("impl="+recipes, func(b *testing.B) {
				l := newLine(c, b, recipes)
				l.fill(b, depth)
				another, stop := l.keep(b)
				dequeueAll(b, c, l, another)
				stop()
			})
		})
	}
}

// dequeueAll takes b.N jobs by 16 consumers of the recipes'.
func dequeueAll(b *testing.B, c *etcdtest.Cluster, l *line, another func()) {
	var (
		turns = make(chan struct{})
		going sync.WaitGroup
	)
	for range consumers {
		q := recipe.NewQueue(c.Client(), l.name)
		going.Go(func() {
			for range turns {
				value, err := q.Dequeue()
				if err != nil {
					b.Error(err)
					continue
				}
				l.take(b, number(b, value))
				another()
			}
		})
	}
	for range consumers {
		turns <- struct{}{}
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	// Those who are at it would take seconds each in a long line.
	l.empty(b)
	l.fill(b, consumers)
	going.Wait()
}

// BenchmarkQueueIdle is a job that is pushed while 16 workers have nothing to do, 200 a second by four producers, until a handler has it.
// wasted-% is as in BenchmarkQueueConsumers: idle workers must not all run for the same job. The time of an operation is the producers'.
func BenchmarkQueueIdle(b *testing.B) {
	const producers = 4
	c := etcdtest.New(b, nil)
	var (
		claims  claimCount
		clients = make([]*clientv3.Client, consumers)
		handled = make(chan struct{}, 1<<10)
		l       = newLine(c, b, ours)
		done    int
	)
	for i := range clients {
		clients[i] = c.Dial(clientv3.Config{DialOptions: claims.DialOptions()})
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var going sync.WaitGroup
	crew := newCrew(b, clients, l, queue.WorkOptions{Concurrency: 1, Prefetch: -1}, func() { handled <- struct{}{} })
	going.Go(func() {
		for { // a turn for whoever gets a job
			select {
			case crew.turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	})
	push := func() {
		if err := l.add(b.Context(), 1); err != nil {
			b.Error(err)
		}
	}
	push()
	etcdtest.Receive(b, time.Minute, "the first job", handled)
	done++
	wanted := make(chan struct{})
	for range producers {
		going.Go(func() {
			for range wanted {
				push()
			}
		})
	}
	claims.reset()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		wanted <- struct{}{}
	}
	close(wanted)
	for ; done <= b.N; done++ {
		etcdtest.Receive(b, time.Minute, "a job", handled)
	}
	claims.report(b)
	cancel()
	going.Wait()
	crew.stop()
	l.check(b)
}

// claimCount looks at the transactions of clients: those that are to claim jobs, and what they claim.
type claimCount struct {
	mu                            sync.Mutex // guards all
	txns, claiming, wasted, claim int
}

func (c *claimCount) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(c.unary)}
}

func (c *claimCount) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	txn, ok := req.(*pb.TxnRequest)
	if !ok || err != nil {
		return err
	}
	wanted, got := claimsIn(txn, reply.(*pb.TxnResponse))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txns++
	c.claim += got
	if wanted > 0 {
		c.claiming++
		if got == 0 {
			c.wasted++
		}
	}
	return nil
}

// claimsIn is how many claims a transaction would put at most, on any of its branches, and how many it did put. The
// answer is nil where the branch was not taken.
func claimsIn(txn *pb.TxnRequest, answer *pb.TxnResponse) (wanted, got int) {
	for branch, ops := range map[bool][]*pb.RequestOp{true: txn.Success, false: txn.Failure} {
		taken := answer != nil && answer.Succeeded == branch
		for i, op := range ops {
			if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), queue.Root) && strings.Contains(string(put.Key), "line/claims/") {
				wanted++
				if taken {
					got++
				}
			}
			if nested := op.GetRequestTxn(); nested != nil {
				var inner *pb.TxnResponse
				if taken {
					inner = answer.Responses[i].GetResponseTxn()
				}
				w, g := claimsIn(nested, inner)
				wanted, got = wanted+w, got+g
			}
		}
	}
	return wanted, got
}

func (c *claimCount) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txns, c.claiming, c.wasted, c.claim = 0, 0, 0, 0
}

func (c *claimCount) report(b *testing.B) {
	b.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	b.ReportMetric(100*float64(c.wasted)/float64(max(1, c.claiming)), "wasted-%")
	b.ReportMetric(float64(c.claim)/float64(max(1, c.claiming)), "claims/txn")
	b.ReportMetric(float64(c.txns)/float64(max(1, c.claim)), "txns/job")
}
