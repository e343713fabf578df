package benchcli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// rows is how many puts of a batch are waited for together.
	rows = 20

	// valueBytes is how large the values are.
	valueBytes = 100
)

// value is what is put.
var value = strings.Repeat("v", valueBytes)

// errClosed says that a value that is followed has ended by itself, which it does not.
var errClosed = errors.New("the value is no longer followed")

// nothing is the undo of what needs none.
func nothing(context.Context) {}

// key is one of this run.
func (b *bench) key(kind string, worker int) string {
	return fmt.Sprintf("%s%s/%d", b.prefix, kind, worker)
}

// put puts a key that goes with the run.
func (b *bench) put(ctx context.Context, key, value string) error {
	_, err := b.Client().Put(ctx, key, value, clientv3.WithLease(b.own.Lease()))
	return err
}

func preparePuts(_ context.Context, b *bench, workers int) ([]operation, func(context.Context), error) {
	work := make([]operation, workers)
	for i := range work {
		key := b.key("put", i)
		work[i] = func(ctx, _ context.Context) (time.Duration, error) {
			began := time.Now()
			err := b.put(ctx, key, value)
			return time.Since(began), err
		}
	}
	return work, nothing, nil
}

// sessions opens one for each worker, as processes have one each.
func (b *bench) sessions(ctx context.Context, workers int) (all []*session.Session, undo func(context.Context), err error) {
	undo = func(ctx context.Context) {
		for _, s := range all {
			_ = s.Close(ctx) // what is left is deleted with the prefix
		}
	}
	for range workers {
		s, err := session.Open(ctx, b.Client(), &session.Options{TTL: ttl})
		if err != nil {
			return nil, undo, err
		}
		all = append(all, s)
	}
	return all, undo, nil
}

func prepareLocks(ctx context.Context, b *bench, workers int) ([]operation, func(context.Context), error) {
	sessions, undo, err := b.sessions(ctx, workers)
	if err != nil {
		return nil, undo, err
	}
	work := make([]operation, workers)
	for i, s := range sessions {
		mutex := lock.NewMutex(s, b.key("lock", i))
		work[i] = func(ctx, _ context.Context) (time.Duration, error) {
			began := time.Now()
			held, err := mutex.Lock(ctx)
			if err == nil {
				err = held.Unlock(ctx)
			}
			return time.Since(began), err
		}
	}
	return work, undo, nil
}

func prepareWatches(ctx context.Context, b *bench, workers int) ([]operation, func(context.Context), error) {
	var undoing []func()
	undo := func(context.Context) {
		for _, f := range undoing {
			f()
		}
	}
	work := make([]operation, workers)
	for i := range work {
		key, n := b.key("watch", i), 0
		if err := b.put(ctx, key, "0"); err != nil {
			return nil, undo, err
		}
		v, err := config.Open[int](ctx, b.Client(), key, nil)
		if err != nil {
			return nil, undo, err
		}
		undoing = append(undoing, v.Close)
		next, stop := iter.Pull(v.Changes(ctx)) // ends with ctx
		undoing = append(undoing, stop)
		work[i] = func(ctx, _ context.Context) (time.Duration, error) {
			n++
			began := time.Now()
			if err := b.put(ctx, key, fmt.Sprint(n)); err != nil {
				return 0, err
			}
			for {
				switch s, ok := next(); {
				case !ok:
					return 0, errClosed
				case s.Value == n:
					return time.Since(began), nil
				}
			}
		}
	}
	return work, undo, nil
}

func prepareBatches(_ context.Context, b *bench, workers int) ([]operation, func(context.Context), error) {
	var writers []*batch.Writer
	undo := func(ctx context.Context) {
		for _, w := range writers {
			_ = w.Close(ctx) // each flush has told
		}
	}
	work := make([]operation, workers)
	for i := range work {
		// Each worker writes its own keys, again and again: what a lost answer has repeated does no harm.
		w, err := batch.New(b.Client(), &batch.Options{Lease: b.own.Lease()})
		if err != nil {
			return nil, undo, err
		}
		writers = append(writers, w)
		prefix := b.key("batch", i)
		work[i] = func(ctx, _ context.Context) (time.Duration, error) {
			began := time.Now()
			for n := range rows {
				if _, err := w.Put(ctx, fmt.Sprintf("%s/%d", prefix, n), value); err != nil {
					return 0, err
				}
			}
			err := w.Flush(ctx)
			return time.Since(began), err
		}
	}
	return work, undo, nil
}
