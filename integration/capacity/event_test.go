package capacity_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/batch"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/registry"
)

// event is how a row's event is made to happen: once prepared, what it returns makes it happen once more, for the time numbered i.
// What is needed once, as a session or a slot to push with, is had before it is counted.
type event struct {
	prepare func(p *place) func(i int)
	others  int // how much others write that it may happen
}

// events are those of the page, but for the one that happens once.
var events = map[string]event{
	"a lock that nobody else wants, acquired and released": {prepare: func(p *place) func(int) {
		mutex := lock.NewMutex(p.session(p.cli), "locks/a")
		return func(int) { p.must(mutex.Do(p.ctx, func(context.Context, fence.Guard) error { return nil })) }
	}},
	"an instance registered, and closed": {prepare: func(p *place) func(int) {
		p.instance("other") // keeps the session
		return func(i int) {
			reg := p.instance(fmt.Sprint(i))
			p.calls.WaitCount(p.t, soon, "Txn", 4*i+2) // it has begun to follow its key
			p.must(reg.Close(p.ctx))
		}
	}},
	"an instance changed by `Update`": {prepare: func(p *place) func(int) {
		reg := p.instance("a")
		return func(i int) { p.must(reg.Update(p.ctx, func(in *registry.Instance) { in.Weight = i + 1 })) }
	}},
	"a document put by `etcdctl` or `Put`": {prepare: func(p *place) func(int) {
		return func(i int) {
			_, err := p.cli.Put(p.ctx, "config/a", strconv.Itoa(i))
			p.must(err)
		}
	}},
	"a document published by a `config.Store`": {prepare: func(p *place) func(int) {
		store, err := config.NewStore(p.cli, nil)
		p.must(err)
		return func(i int) {
			_, err := store.Publish(p.ctx, "config/a", []byte(strconv.Itoa(i)), config.PublishOptions{})
			p.must(err)
		}
	}},
	"a job pushed": {prepare: func(p *place) func(int) {
		q := p.mail(p.cli, 1)
		return func(i int) {
			_, err := q.Push(p.ctx, i, nil)
			p.must(err)
		}
	}},
	"127 jobs pushed by `PushMany`": {prepare: func(p *place) func(int) {
		q := p.mail(p.cli, 1)
		return func(int) { p.push(q, 127) }
	}},
	"a job claimed and acknowledged, one at a time": {others: 1, prepare: func(p *place) func(int) {
		producer := p.mail(p.oracle, 1)
		p.work(1)
		p.drained(producer)
		return func(int) {
			p.push(producer, 1)
			p.drained(producer)
		}
	}},
	"128 rows by a `batch.Writer`": {prepare: func(p *place) func(int) {
		w, err := batch.New(p.cli, &batch.Options{Interval: soon}) // however slow this machine is
		p.must(err)
		p.t.Cleanup(func() { _ = w.Close(context.Background()) })
		return func(int) {
			for i := range 128 {
				_, err := w.Put(p.ctx, fmt.Sprint("rows/", i), "row")
				p.must(err)
			}
			p.must(w.Flush(p.ctx))
		}
	}},
}

func TestWhatEventsCost(t *testing.T) {
	t.Parallel()
	for _, r := range thePage(t).events {
		if strings.HasPrefix(r[0], "640 jobs") {
			continue
		}
		t.Run(strings.ReplaceAll(r[0], " ", "_"), func(t *testing.T) {
			t.Parallel()
			how, known := events[r[0]]
			if !known {
				t.Fatal("nobody knows how it happens")
			}
			p := newPlace(t)
			next := how.prepare(p)
			etcdtest.Nothing(t, settled, "settling", (<-chan struct{})(nil))
			p.calls.Reset()
			before := p.cluster.Revision()
			for i := range many {
				next(i)
			}
			if got, want := p.unary(), many*int(r.value(t, 1, 1)); got != want {
				t.Errorf("%d calls for %d, and by the page %d: %v", got, many, want, p.calls.Counts())
			}
			if got, want := p.cluster.Revision()-before, many*(how.others+int(r.value(t, 2, 1))); got != int64(want) {
				t.Errorf("%d writes for %d, and by the page %d", got, many, want)
			}
		})
	}
}

func TestManyJobsShareTransactions(t *testing.T) {
	t.Parallel()
	r := named(t, thePage(t).events, "640 jobs that wait, claimed and acknowledged by 64 handlers")
	most, err := strconv.Atoi(strings.TrimPrefix(r[1], "≤ "))
	if err != nil || r[1] != r[2] {
		t.Fatalf("%q", r)
	}
	p := newPlace(t)
	q := p.mail(p.oracle, 640)
	before := p.cluster.Revision()
	p.work(64)
	p.drained(q)
	calls := p.unary() - int(named(t, thePage(t).rest, "worker").value(t, 5, 1))
	if writes := int(p.cluster.Revision() - before); calls > most || writes > most || calls < 20 {
		t.Errorf("%d calls and %d writes, and by the page at most %d", calls, writes, most)
	}
}

func TestAChangeIsOneEventForAClient(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	reg, err := registry.Register(p.ctx, p.oracle, registry.Instance{Service: "mail", ID: "a", Addr: addr}, nil)
	p.must(err)
	defer reg.Close(context.Background())
	for range many {
		p.view("mail")
	}
	v, err := registry.Watch(p.ctx, p.cli, "mail", nil)
	p.must(err)
	defer v.Close()
	etcdtest.Nothing(t, settled, "settling", (<-chan struct{})(nil))
	p.calls.Reset()
	const changes = 20
	for i := range changes {
		p.must(reg.Update(p.ctx, func(in *registry.Instance) { in.Weight = i + 1 }))
		p.must(v.WaitRevision(p.ctx, reg.Revision()))
	}
	// Beside the answers to the questions whether the watch is alive.
	asked := p.calls.Count(etcdtest.WatchProgress)
	if got := p.calls.Count(etcdtest.WatchResponse); got < changes || got > changes+asked+1 {
		t.Errorf("%d events and answers for %d changes and %d questions", got, changes, asked)
	}
}

// instance registers one.
func (p *place) instance(id string) *registry.Registration {
	p.t.Helper()
	reg, err := registry.Register(p.ctx, p.cli, registry.Instance{Service: "mail", ID: id, Addr: addr}, &registry.Options{Session: options})
	p.must(err)
	p.t.Cleanup(func() { _ = reg.Close(context.Background()) })
	return reg
}

// mail is a queue through a client, to which so many jobs were pushed.
func (p *place) mail(cli *clientv3.Client, n int) *queue.Queue[int] {
	p.t.Helper()
	q := queue.New[int](cli, "mail", nil)
	p.push(q, n)
	return q
}

func (p *place) push(q *queue.Queue[int], n int) {
	p.t.Helper()
	_, err := q.PushMany(p.ctx, make([]int, n), nil)
	p.must(err)
}

// work works on the queue until the end of the test.
func (p *place) work(handlers int) {
	q := queue.New[int](p.cli, "mail", nil)
	p.running.Go(func() {
		_ = q.Work(p.ctx, &queue.WorkOptions{Concurrency: handlers}, func(context.Context, *queue.Delivery[int]) error { return nil })
	})
}

// drained waits until all jobs are done.
func (p *place) drained(q *queue.Queue[int]) {
	p.t.Helper()
	etcdtest.WaitKeys(p.t, soon, p.oracle, queue.Root+q.Name()+"//line/jobs/", 0)
}
