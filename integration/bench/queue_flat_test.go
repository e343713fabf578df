package bench_test

import (
	"encoding/json"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// BenchmarkQueueFlat is a job claimed, handled by who returns at once, and acknowledged, while so many jobs wait: with one job
// at a time, and with 64 claimed ahead. Raw is the same by transactions made by hand, by one who knows what is in line; recipes
// takes a job by one deletion, and whoever dies then has lost it. The line is kept at its length while the clock runs, but for raw.
func BenchmarkQueueFlat(b *testing.B) {
	for _, depth := range depths(b, 100, 50_000, 500_000) {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) { queueFlat(b, depth, 0) })
	}
	consumed := min(500_000, 10*deepest(b))
	b.Run(fmt.Sprintf("depth=100/consumed=%d", consumed), func(b *testing.B) { queueFlat(b, 100, consumed) })
}

// queueFlat measures at one depth, after so many jobs were consumed.
func queueFlat(b *testing.B, depth, consumed int) {
	c := etcdtest.New(b, nil)
	filled := func(b *testing.B, impl string) *line {
		l := newLine(c, b, impl)
		l.consume(b, consumed)
		l.fill(b, depth)
		return l
	}
	mine := filled(b, ours)
	for _, prefetch := range []int{1, 64} {
		b.Run(fmt.Sprintf("prefetch=%d/impl=%s", prefetch, ours), func(b *testing.B) {
			opts := queue.WorkOptions{Concurrency: 1, Prefetch: -1}
			if prefetch > 1 {
				opts.Prefetch = prefetch
			}
			another, stop := mine.keep(b)
			crew := newCrew(b, []*clientv3.Client{c.Client()}, mine, opts, another)
			for range 2 * prefetch { // it is at work when the clock starts
				crew.turn()
			}
			for b.Loop() {
				crew.turn()
			}
			crew.stop()
			stop()
			mine.check(b)
		})
	}
	for _, prefetch := range []int{1, 64} {
		b.Run(fmt.Sprintf("prefetch=%d/impl=%s", prefetch, raw), func(b *testing.B) {
			byHand(b, c.Client(), mine, prefetch)
			mine.check(b)
		})
	}
	if depth > 50_000 {
		return // a job of the recipes' takes seconds
	}
	theirs := filled(b, recipes)
	b.Run("prefetch=1/impl="+recipes, func(b *testing.B) {
		q := recipe.NewQueue(c.Client(), theirs.name)
		another, stop := theirs.keep(b)
		for b.Loop() {
			value, err := q.Dequeue()
			if err != nil {
				b.Fatal(err)
			}
			theirs.take(b, number(b, value))
			another()
		}
		stop()
		theirs.check(b)
	})
}

// byHand claims and acknowledges so many jobs at a time, by transactions with one nested for each. One operation is one job.
func byHand(b *testing.B, client *clientv3.Client, l *line, atATime int) {
	txn := func(ops []clientv3.Op) {
		resp, err := client.Txn(b.Context()).Then(ops...).Commit()
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range resp.Responses {
			if !r.GetResponseTxn().Succeeded {
				b.Fatal("a job was gone, or claimed by somebody else")
			}
		}
	}
	claims, acks := make([]clientv3.Op, atATime), make([]clientv3.Op, atATime)
	first, spare := 0, 0
	for turn := 0; b.Loop(); turn++ {
		if turn%atATime > 0 {
			continue // it was one of those before
		}
		if spare < atATime {
			b.StopTimer()
			l.fill(b, txnOps)
			spare += txnOps
			b.StartTimer()
		}
		spare -= atATime
		first = l.first(first)
		for i := range atATime {
			job, claim := l.job(first+i), l.claim(first+i)
			claims[i] = clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(job), ">", 0), clientv3.Compare(clientv3.CreateRevision(claim), "=", 0)},
				[]clientv3.Op{clientv3.OpPut(claim, "bench"), clientv3.OpGet(job)}, nil)
			acks[i] = clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(claim), ">", 0)},
				[]clientv3.Op{clientv3.OpDelete(claim), clientv3.OpDelete(job)}, nil)
		}
		txn(claims)
		txn(acks)
		for i := range atATime {
			l.take(b, first+i)
		}
	}
}

// number reads which job a value is.
func number(b *testing.B, value string) int {
	b.Helper()
	var m mail
	if err := json.Unmarshal([]byte(value), &m); err != nil {
		b.Fatal(err)
	}
	return m.N
}
