package queue_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestProducersKeepToADepthWithinABatchEach(t *testing.T) {
	t.Parallel()
	const most, producers, batch = 1000, 8, 128
	opts := &queue.Options[string]{MaxDepth: most}
	first, _, cli := pushQueue(t, opts)
	var going sync.WaitGroup
	for n := range producers {
		q := queue.New(cli, first.Name(), opts)
		going.Go(func() {
			for { // until it is full
				var err error
				if n%2 == 0 {
					_, err = q.PushMany(t.Context(), pushItems(10), nil)
				} else {
					_, err = q.Push(t.Context(), "item", nil)
				}
				if err != nil {
					if !errors.Is(err, queue.ErrFull) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	going.Wait()
	if n := len(pushedJobs(t, cli, first.Name())); n < most || n > most+producers*batch {
		t.Errorf("%d jobs, want from %d to a batch a producer more", n, most)
	}
}

func TestOneProducerFillsAQueueExactlyAndSaysWhatItWrote(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, &queue.Options[string]{MaxDepth: 300})
	items := pushItems(400)
	ids, err := q.PushMany(t.Context(), items, nil)
	var failed *queue.PushError
	if !errors.Is(err, queue.ErrFull) || !errors.As(err, &failed) || failed.Written != 300 || failed.Unknown != 0 {
		t.Fatalf("%v", err)
	}
	pushedInOrder(t, cli, q.Name(), ids, items[:300])

	// Refusals share a count, and room is noticed soon.
	calls.Reset()
	refused := 0
	for range 50 {
		if _, err := q.Push(t.Context(), "item", nil); errors.Is(err, queue.ErrFull) {
			refused++
		}
	}
	if refused != 50 || calls.Count("Txn") > 0 || calls.Count("Range") > 25 {
		t.Errorf("%d refused, calls %v", refused, calls.Counts())
	}
	pushDone(t, cli, q.Name())
	began := time.Now()
	etcdtest.Eventually(t, pushSoon, "room", func(context.Context) error {
		_, err := q.Push(t.Context(), "item", nil)
		return err
	})
	if d := time.Since(began); d > 500*time.Millisecond {
		t.Errorf("room was noticed after %v", d)
	}
}

func TestAQueueThatCannotBeCountedIsNotPushedInto(t *testing.T) {
	t.Parallel()
	q, calls, cli := pushQueue(t, &queue.Options[string]{MaxDepth: 300})
	calls.Inject(etcdtest.Fault{Call: "Range", Err: rpctypes.ErrGRPCPermissionDenied})
	_, err := q.Push(t.Context(), "item", nil)
	var failed *queue.PushError
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || !errors.As(err, &failed) || failed.Unknown != 0 {
		t.Errorf("%v", err)
	}
	pushedItem(t, cli, q.Name(), "")
}
