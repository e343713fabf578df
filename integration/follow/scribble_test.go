package follow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// scribbler makes random changes under a prefix: keys come and go, alone, several in one revision, and with a lease.
// It belongs to one goroutine at a time.
type scribbler struct {
	oracle *clientv3.Client
	prefix string
	rng    *rand.Rand
	keys   int // how many keys there may be
	name   func(i int) string
	rev    int64 // of the newest change
	leases []clientv3.LeaseID
}

// newScribbler returns one whose changes are a schedule of their own, drawn from rng once.
func newScribbler(oracle *clientv3.Client, prefix string, rng *rand.Rand) *scribbler {
	return &scribbler{
		oracle: oracle, prefix: prefix, rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())),
		keys: 12, name: func(i int) string { return fmt.Sprintf("k%02d", i) },
	}
}

func (s *scribbler) key() string { return s.prefix + s.name(s.rng.IntN(s.keys)) }

func (s *scribbler) value() string { return fmt.Sprint(s.rng.Uint32()) }

// scribble makes n changes.
func (s *scribbler) scribble(t testing.TB, n int) {
	t.Helper()
	for range n {
		if err := s.change(context.WithoutCancel(t.Context())); err != nil {
			t.Fatalf("changing something under %q: %v", s.prefix, err)
		}
	}
}

// run makes changes until stop is closed: many, but not so many that nothing else gets done in this process.
func (s *scribbler) run(stop <-chan struct{}) error {
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-pace.C:
		}
		if err := s.change(context.Background()); err != nil {
			return err
		}
	}
}

// inBackground makes changes until the function that it returns is called, which waits for the last.
func (s *scribbler) inBackground(t testing.TB) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.run(end) }()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		close(end)
		if err := <-ended; err != nil {
			t.Errorf("changing something under %q: %v", s.prefix, err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// change makes one change.
func (s *scribbler) change(ctx context.Context) error {
	switch n := s.rng.IntN(20); {
	case n < 4:
		resp, err := s.oracle.Delete(ctx, s.key())
		if err != nil {
			return err
		}
		if resp.Deleted > 0 {
			s.rev = resp.Header.Revision
			return nil
		}
	case n < 9:
		return s.together(ctx)
	case n < 10:
		lease, err := s.oracle.Grant(ctx, 600)
		if err != nil {
			return err
		}
		s.leases = append(s.leases, lease.ID)
		return s.put(ctx, clientv3.WithLease(lease.ID))
	case n < 11 && len(s.leases) > 0:
		if _, err := s.oracle.Revoke(ctx, s.leases[0]); err != nil {
			return err
		}
		s.leases = s.leases[1:]
		// Its key may be gone, or without a lease since: then the revocation was no change.
	}
	return s.put(ctx)
}

func (s *scribbler) put(ctx context.Context, opts ...clientv3.OpOption) error {
	resp, err := s.oracle.Put(ctx, s.key(), s.value(), opts...)
	if err != nil {
		return err
	}
	s.rev = resp.Header.Revision
	return nil
}

// together puts and deletes several keys in one revision.
func (s *scribbler) together(ctx context.Context) error {
	var ops []clientv3.Op
	for i := range s.keys {
		key := s.prefix + s.name(i)
		switch s.rng.IntN(3) {
		case 0:
			ops = append(ops, clientv3.OpPut(key, s.value()))
		case 1:
			ops = append(ops, clientv3.OpDelete(key))
		}
	}
	ops = append(ops, clientv3.OpPut(s.prefix+"together", s.value()))
	resp, err := s.oracle.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	s.rev = resp.Header.Revision
	return nil
}

// put puts one key and returns the revision.
func put(t testing.TB, cli *clientv3.Client, key, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
	defer cancel()
	resp, err := cli.Put(ctx, key, value)
	if err != nil {
		t.Fatalf("put %q (%d bytes): %v", key, len(value), err)
	}
	return resp.Header.Revision
}

// del deletes a key and returns the revision.
func del(t testing.TB, cli *clientv3.Client, key string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
	defer cancel()
	resp, err := cli.Delete(ctx, key)
	if err != nil || resp.Deleted != 1 {
		t.Fatalf("delete %q: %v, %v", key, resp, err)
	}
	return resp.Header.Revision
}

// has returns whether the judge's view holds a value at a key. Call it with the lock held, as wait does.
func (j *judge) has(key, value string) bool {
	kv := j.content[key]
	return kv != nil && string(kv.Value) == value
}

// repeat is a long value.
func repeat(n int) string { return strings.Repeat("x", n) }
