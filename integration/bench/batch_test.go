package bench_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

const (
	single = "puts" // one after the other
	raw    = "raw"  // the transactions that a batch.Writer makes at best, made by hand

	txnOps   = 128
	inFlight = 8
)

// rowWriter writes rows and returns when etcd has them all.
type rowWriter func(b *testing.B, keys []string, value string)

func newRowWriter(b *testing.B, impl string, client *clientv3.Client) rowWriter {
	switch impl {
	case single:
		return putEach(client)
	case raw:
		return putByTxn(client)
	}
	w, err := batch.New(client, &batch.Options{InFlight: inFlight, MaxOps: txnOps})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close(context.Background()) })
	return func(b *testing.B, keys []string, value string) {
		for _, key := range keys {
			if _, err := w.Put(b.Context(), key, value); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func putEach(client *clientv3.Client) rowWriter {
	return func(b *testing.B, keys []string, value string) {
		for _, key := range keys {
			if _, err := client.Put(b.Context(), key, value); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func putByTxn(client *clientv3.Client) rowWriter {
	return func(b *testing.B, keys []string, value string) {
		var (
			flights sync.WaitGroup
			places  = make(chan struct{}, inFlight)
		)
		for len(keys) > 0 {
			n := min(txnOps, len(keys))
			ops := make([]clientv3.Op, n)
			for i, key := range keys[:n] {
				ops[i] = clientv3.OpPut(key, value)
			}
			keys = keys[n:]
			places <- struct{}{}
			flights.Go(func() {
				defer func() { <-places }()
				if _, err := client.Txn(b.Context()).Then(ops...).Commit(); err != nil {
					b.Error(err)
				}
			})
		}
		flights.Wait()
	}
}

// BenchmarkBatch writes so many rows of 100 bytes, and waits until etcd has them all: 1 is the worst case of a batch,
// 10,000 a stream that is flushed at its end. One operation is one flush; rows/s is the one to compare.
func BenchmarkBatch(b *testing.B) {
	value := strings.Repeat("v", 100)
	for _, rows := range []int{1, 100, 1000, 10000} {
		for _, impl := range []string{ours, single, raw} {
			b.Run(fmt.Sprintf("rows=%d/impl=%s", rows, impl), func(b *testing.B) {
				write := newRowWriter(b, impl, etcdtest.Client(b))
				keys := make([]string, rows) // the same ones each time: etcd's index must not grow from run to run
				for i := range keys {
					keys[i] = "batch/" + strconv.Itoa(i)
				}
				for b.Loop() {
					write(b, keys, value)
				}
				b.ReportMetric(float64(b.N)*float64(rows)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
