package retry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// F4 and B2, B3: a read is given up after ReadTimeout; a write after one attempt, because it may have been applied, which here
// it was. The client below repeats neither.
func TestAnEndpointThatHangsCostsAReadItsReadTimeoutAndAWriteOneAttempt(t *testing.T) {
	t.Parallel()
	p := retry.Policy{AttemptTimeout: 200 * time.Millisecond, ReadTimeout: 2 * time.Second, ConnectTimeout: soon}
	link := etcdtest.Shared(t).Link(0)
	cli, prefix := dial(t, p, link.Endpoint()), etcdtest.Prefix(t)
	etcdtest.Eventually(t, soon, "a connection", func(ctx context.Context) error { _, err := cli.Get(ctx, prefix); return err })
	link.Blackhole(etcdtest.Responses) // requests are carried out
	cli.wire.Reset()
	cli.outer.Reset()

	took, err := timed(t, "Get", func() error { _, err := cli.Get(t.Context(), prefix+"k"); return err })
	want(t, "Get", err, retry.ErrReadTimeout)
	isAmbiguous(t, "Get", err) // for a read that means: no answer
	if took < p.ReadTimeout/2 || took > soon/2 {
		t.Errorf("Get took %v, want about %v", took, p.ReadTimeout)
	}
	if n, out := cli.wire.Count("Range"), cli.outer.Count("Range"); n < 2 || n > 6 || out != 1 {
		t.Errorf("Get was sent %d times, by %d calls of clientv3", n, out)
	}

	for what, write := range map[string]func(key string) error{
		"Put": func(key string) error { _, err := cli.Put(t.Context(), key, ""); return err },
		"Txn": func(key string) error {
			_, err := cli.Txn(t.Context()).Then(clientv3.OpPut(key, "")).Commit()
			return err
		},
	} {
		took, err := timed(t, what, func() error { return write(prefix + what) })
		isAmbiguous(t, what, err)
		if took < p.AttemptTimeout/2 || took > soon/2 {
			t.Errorf("%s took %v, want about %v", what, took, p.AttemptTimeout)
		}
		if n := cli.wire.Count(what); n != 1 {
			t.Errorf("%s was sent %d times", what, n)
		}
	}
	link.Heal()
	for _, what := range []string{"Put", "Txn"} {
		// Read on the same connection: what it held has arrived before.
		if _, version := mustGet(t, cli, prefix+what); version != 1 {
			t.Errorf("%s was applied %d times", what, version)
		}
	}
}

// P7 (cilium#3496, etcd#10832, etcd#7321): with one of two endpoints hung, every other call of the stock client runs into its
// caller's deadline. None does here.
func TestNoCallFailsWhileOneOfTwoEndpointsHangs(t *testing.T) {
	t.Parallel()
	const n = 24
	c := etcdtest.New(t, nil)
	hung, well := c.Link(0), c.Link(0)
	cli := dial(t, retry.Policy{}, hung.Endpoint(), well.Endpoint())
	plain, _ := stock(t, hung.Endpoint(), well.Endpoint())
	prefix := etcdtest.Prefix(t)
	etcdtest.Eventually(t, soon, "both endpoints are connected", func(ctx context.Context) error {
		for _, cli := range []*clientv3.Client{cli.Client, plain} {
			if _, err := cli.Get(ctx, prefix); err != nil {
				return err
			}
		}
		if hung.Open() < 2 || well.Open() < 2 {
			return fmt.Errorf("%d and %d connections", hung.Open(), well.Open())
		}
		return nil
	})
	for range 8 {
		mustPut(t, cli, prefix+"warm", "")
		mustPut(t, plain, prefix+"warm", "")
	}
	hung.Blackhole(etcdtest.Both)

	// each makes n calls, at once or one by one.
	each := func(n int, atOnce bool, call func(ctx context.Context, i int) error) (w tally) {
		var (
			wg sync.WaitGroup
			mu sync.Mutex // guards w
		)
		for i := range n {
			one := func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				began := time.Now()
				err := call(ctx, i)
				mu.Lock()
				defer mu.Unlock()
				w.count(time.Since(began), err)
			}
			if atOnce {
				wg.Go(one)
			} else {
				one()
			}
		}
		wg.Wait()
		return w
	}
	read := func(ctx context.Context, _ int) error { _, err := cli.Get(ctx, prefix); return err }
	write := func(how string) func(ctx context.Context, i int) error {
		return func(ctx context.Context, i int) error {
			result, err := cas(ctx, cli.Client, fmt.Sprintf("%s%s/%d", prefix, how, i), 0, how)
			if err == nil && result.Outcome != retry.Applied {
				err = fmt.Errorf("%+v", result)
			}
			return err
		}
	}
	for what, w := range map[string]tally{
		"reads":              each(4, false, read),
		"conditional writes": each(4, false, write("one")),
	} {
		t.Logf("%s, one by one: %v", what, &w)
		if w.failed > 0 {
			t.Errorf("%s, one by one: %v", what, &w)
		}
	}
	// Many callers share the round robin, so that the next attempt of each may meet the same endpoint again: one read in eight
	// does so three times, and then its time is over. Only who takes the endpoint out of the list can prevent that.
	reads, writes := each(n, true, read), each(n, true, write("all"))
	t.Logf("reads at once: %v", &reads)
	t.Logf("conditional writes at once: %v", &writes)
	if reads.failed+writes.failed > n {
		t.Errorf("of %d calls at once %d failed", 2*n, reads.failed+writes.failed)
	}
	for _, e := range history(t, c.Oracle(0), prefix) {
		if e.Kv.Version != 1 && string(e.Kv.Key) != prefix+"warm" {
			t.Errorf("%s was written %d times", e.Kv.Key, e.Kv.Version)
		}
	}
	theirs := each(n, true, func(ctx context.Context, _ int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := plain.Get(ctx, prefix)
		return err
	})
	t.Logf("stock, reads with 1s: %v", &theirs)
}
