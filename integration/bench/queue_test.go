package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
)

// recipes is the side of etcd's own queue.
const recipes = "recipes"

// mail is an item, of some hundred bytes. N numbers those of a line from 0.
type mail struct {
	N    int    `json:"n"`
	To   string `json:"to"`
	Body string `json:"body"`
}

func letter(n int) mail {
	return mail{n, "somebody@example.com", "Your order has left our house and is on its way."}
}

func letterText(n int) string {
	text, err := json.Marshal(letter(n))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// deepest is how many jobs wait at most. Filling takes time, so that it is little unless ETCDKIT_QUEUE_DEPTH says otherwise: 500000
// is what docs/performance.md tells of.
func deepest(b *testing.B) int {
	b.Helper()
	text := os.Getenv("ETCDKIT_QUEUE_DEPTH")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("ETCDKIT_QUEUE_DEPTH is %q, which is not a number of jobs", text)
	}
	return n
}

// depths returns the depths to measure at: those asked for, as far as they are not too deep, and else the deepest.
func depths(b *testing.B, asked ...int) []int {
	b.Helper()
	var some []int
	for _, n := range asked {
		n = min(n, deepest(b))
		if len(some) == 0 || n > some[len(some)-1] {
			some = append(some, n)
		}
	}
	return some
}

// line is a queue of ours or of the recipes whose jobs are put by transactions made by hand: what is measured is how they are
// taken. Jobs are numbered in the order of their places. It is safe for concurrent use.
type line struct {
	client *clientv3.Client // of its own, without interceptors
	name   string
	impl   string
	epoch  int64 // the clock of job 0: long ago enough for no place to be in the future

	mu    sync.Mutex // guards both
	taken []bool     // by number, of all that were put
	done  int        // how many were taken
}

func newLine(c *etcdtest.Cluster, b *testing.B, impl string) *line {
	return &line{
		client: c.Client(), impl: impl, epoch: time.Now().Add(-time.Hour).UnixMicro(),
		name: strings.TrimSuffix(etcdtest.Prefix(b), "/"),
	}
}

// root is the prefix of all keys of the line.
func (l *line) root() string {
	if l.impl == recipes {
		return l.name + "/"
	}
	return queue.Root + l.name + "//"
}

// jobs is the prefix of the jobs, and job the key of one.
func (l *line) jobs() string {
	if l.impl == recipes {
		return l.root()
	}
	return l.root() + "line/jobs/"
}

func (l *line) claims() string { return l.root() + "line/claims/" }

func (l *line) place(n int) string { return fmt.Sprintf("100/%013x-bench000", l.epoch+int64(n)) }
func (l *line) claim(n int) string { return l.claims() + l.place(n) }

func (l *line) job(n int) string {
	if l.impl == recipes {
		return fmt.Sprintf("%s%019d", l.jobs(), n)
	}
	return l.jobs() + l.place(n)
}

func (l *line) value(n int) string {
	if l.impl == recipes {
		return letterText(n)
	}
	return "\n" + letterText(n)
}

// reserve returns the first of n numbers that are new.
func (l *line) reserve(n int) (first int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.taken)
	l.taken = append(l.taken, make([]bool, n)...)
	return first
}

// add puts n jobs at the end of the line.
func (l *line) add(ctx context.Context, n int) error {
	return l.chunks(n, func(first, n int) error {
		ops := make([]clientv3.Op, n)
		for i := range ops {
			ops[i] = clientv3.OpPut(l.job(first+i), l.value(first+i))
		}
		_, err := l.client.Txn(ctx).Then(ops...).Commit()
		return err
	})
}

// chunks calls do for so many new jobs, as many at a time as a transaction holds.
func (l *line) chunks(n int, do func(first, n int) error) error {
	first := l.reserve(n)
	var (
		mu   sync.Mutex // guards errs
		errs []error
	)
	each((n+txnOps-1)/txnOps, inFlight, func(i int) {
		if err := do(first+i*txnOps, min(txnOps, n-i*txnOps)); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// fill puts n jobs, outside of the clock.
func (l *line) fill(b *testing.B, n int) {
	b.Helper()
	if err := l.add(b.Context(), n); err != nil {
		b.Fatal(err)
	}
}

// consume leaves behind what n jobs leave that were pushed, claimed and acknowledged, and not compacted away since.
func (l *line) consume(b *testing.B, n int) {
	b.Helper()
	err := l.chunks(n, func(first, n int) error {
		jobs, claims := make([]clientv3.Op, n), make([]clientv3.Op, n)
		for i := range n {
			jobs[i] = clientv3.OpPut(l.job(first+i), l.value(first+i))
			claims[i] = clientv3.OpPut(l.claim(first+i), "bench")
		}
		ends := []clientv3.Op{clientv3.OpDelete(l.job(first), clientv3.WithRange(l.job(first+n)))}
		txns := [][]clientv3.Op{jobs, ends}
		if l.impl != recipes {
			ends = append(ends, clientv3.OpDelete(l.claim(first), clientv3.WithRange(l.claim(first+n))))
			txns = [][]clientv3.Op{jobs, claims, ends}
		}
		for _, ops := range txns {
			if _, err := l.client.Txn(b.Context()).Then(ops...).Commit(); err != nil {
				return err
			}
		}
		for i := range n {
			l.take(b, first+i)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// take notes that a job was handled.
func (l *line) take(b *testing.B, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case n < 0 || n >= len(l.taken):
		b.Errorf("job %d was handled: it was never put", n)
	case l.taken[n]:
		b.Errorf("job %d was handled twice", n)
	default:
		l.taken[n] = true
		l.done++
	}
}

// left is how many jobs were put and not taken.
func (l *line) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken) - l.done
}

// first is the number of the first job that was not taken.
func (l *line) first(from int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from < len(l.taken) && l.taken[from] {
		from++
	}
	return from
}

// check fails the benchmark unless etcd holds the jobs that were not taken, and no claim. Nobody may be at work.
func (l *line) check(b *testing.B) {
	b.Helper()
	for prefix, want := range map[string]int{l.jobs(): l.left(), l.claims(): 0} {
		resp, err := l.client.Get(context.WithoutCancel(b.Context()), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			b.Fatal(err)
		}
		if resp.Count != int64(want) {
			b.Errorf("%d keys are left at %s, want %d", resp.Count, prefix, want)
		}
	}
}

// empty deletes all.
func (l *line) empty(b *testing.B) {
	b.Helper()
	if _, err := l.client.Delete(b.Context(), l.jobs(), clientv3.WithPrefix()); err != nil {
		b.Fatal(err)
	}
}

// keep keeps the line at its length until the benchmark ends: a job is put for each that the caller says was taken. Some at a
// time, so that it costs next to nothing.
func (l *line) keep(b *testing.B) (another func(), stop func()) {
	const atATime = 32
	var (
		count atomic.Int64
		turns = make(chan struct{}, 1<<10)
		going sync.WaitGroup
	)
	for range 4 {
		going.Go(func() {
			for range turns {
				if err := l.add(b.Context(), atATime); err != nil {
					b.Error(err)
				}
			}
		})
	}
	another = func() {
		if count.Add(1)%atATime == 0 {
			turns <- struct{}{}
		}
	}
	return another, func() {
		close(turns)
		going.Wait()
	}
}

// crew is workers of ours, each on a client of its own, that handle a job whenever a turn is given.
type crew struct {
	b      *testing.B
	turns  chan struct{}
	failed chan error
	stop   func()
}

// newCrew starts a worker for each client. They call handled for each job that is done.
func newCrew(b *testing.B, clients []*clientv3.Client, l *line, opts queue.WorkOptions, handled func()) *crew {
	b.Helper()
	var (
		c           = &crew{b: b, turns: make(chan struct{}), failed: make(chan error, len(clients))}
		ctx, cancel = context.WithCancel(b.Context())
		going       sync.WaitGroup
	)
	opts.DrainTimeout = 10 * time.Millisecond // at the end handlers wait for a turn that nobody gives
	for _, client := range clients {
		q := queue.New[mail](client, l.name, nil)
		going.Go(func() {
			err := q.Work(ctx, &opts, func(ctx context.Context, d *queue.Delivery[mail]) error {
				select {
				case <-c.turns:
				case <-ctx.Done():
					return d.Nack(context.WithoutCancel(ctx), 0) // it stays where it is
				}
				l.take(b, d.Item.N)
				handled()
				return nil
			})
			if ctx.Err() == nil {
				c.failed <- fmt.Errorf("a worker has ended: %w", err)
			}
		})
	}
	c.stop = func() {
		cancel()
		going.Wait()
	}
	return c
}

// turn lets a job be handled, and returns when a handler has it.
func (c *crew) turn() {
	select {
	case c.turns <- struct{}{}:
	case err := <-c.failed:
		c.b.Fatal(err)
	case <-time.After(time.Minute):
		c.b.Fatal("no job is handled")
	}
}
