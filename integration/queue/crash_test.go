package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// crashTTL is the least TTL of a session.
	crashTTL = 2 * time.Second

	// crashBack is the bound for a dead worker's jobs to be back.
	crashBack = crashTTL + time.Second

	// crashSoon is the patience with what has no bound of its own.
	crashSoon = 15 * time.Second
)

func init() { etcdproc.Child("queue-worker", crashWorker) }

// crashWorker is a process that works on the queue in its arguments, and says what it is given. What it does with a job is in the item:
//
//	done   it is done with it at once
//	kill   it is killed by it
//	hold   it waits for a line on stdin, and then acknowledges, without looking at its context
func crashWorker() {
	endpoint, name, concurrency := os.Args[1], os.Args[2], os.Args[3]
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(concurrency)
	if err != nil {
		panic(err)
	}
	var (
		mu    sync.Mutex
		stdin = bufio.NewReader(os.Stdin) // guarded by mu
	)
	err = crashQueue(cli, name).Work(context.Background(), crashOptions(n), func(_ context.Context, d *queue.Delivery[string]) error {
		fmt.Println("has", d.ID, d.Attempt, int64(d.Guard().Token))
		what, _, _ := strings.Cut(d.Item, " ")
		switch what {
		case "kill":
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				panic(err)
			}
			if err := self.Kill(); err != nil {
				panic(err)
			}
			select {}
		case "hold":
			mu.Lock()
			_, err := stdin.ReadString('\n')
			mu.Unlock()
			if err != nil {
				panic(err)
			}
			fmt.Println("context", d.Context().Err() != nil, errors.Is(context.Cause(d.Context()), fence.ErrLost))
			err = d.Ack(context.Background(), clientv3.OpPut(name+"-late", "by the one who was frozen"))
			fmt.Println("ack", errors.Is(err, fence.ErrLost))
			return err
		default:
			return nil
		}
	})
	fmt.Println("over", err)
}

func crashQueue(cli *clientv3.Client, name string) *queue.Queue[string] {
	return queue.New(cli, name, &queue.Options[string]{MaxAttempts: 3})
}

func crashOptions(concurrency int) *queue.WorkOptions {
	return &queue.WorkOptions{Concurrency: concurrency, DrainTimeout: time.Second, Session: &session.Options{TTL: crashTTL}}
}

// crashSpawn starts a worker process.
func crashSpawn(t *testing.T, endpoint, name string, concurrency int) *etcdproc.Process {
	t.Helper()
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "queue-worker", Args: []string{endpoint, name, strconv.Itoa(concurrency)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() }) // most are killed
	return p
}

// crashGiven is what a worker process was given next.
func crashGiven(t *testing.T, p *etcdproc.Process) (id string, attempt int, token int64) {
	t.Helper()
	if _, err := fmt.Sscan(crashSays(t, p, "has "), &id, &attempt, &token); err != nil {
		t.Fatal(err)
	}
	return id, attempt, token
}

func crashSays(t *testing.T, p *etcdproc.Process, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), crashSoon)
	defer cancel()
	line, err := p.Expect(ctx, prefix)
	if err != nil {
		t.Fatalf("%q: %v\n%s", prefix, err, p.Stderr())
	}
	return line
}

func crashPush(t *testing.T, q *queue.Queue[string], items ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), crashSoon)
	defer cancel()
	ids, err := q.PushMany(ctx, items, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// crashWork works in this process until the test ends, or stop is called.
func crashWork(t *testing.T, q *queue.Queue[string], concurrency int, handle func(ctx context.Context, d *queue.Delivery[string]) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Work(ctx, crashOptions(concurrency), handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Work: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// A process is killed that works on four jobs and has claimed more: the others have them all within its TTL and a second, and know
// that there was an attempt.
func TestTheJobsOfAKilledWorkerAreBackInTime(t *testing.T) {
	t.Parallel()
	const jobs, handlers = 12, 4
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"jobs"
	q := crashQueue(cli, name)
	p := crashSpawn(t, etcdtest.Shared(t).Endpoint(0), name, handlers)
	items := make([]string, jobs)
	for n := range items {
		items[n] = "hold"
	}
	crashPush(t, q, items...)
	had := map[string]int64{}
	for range handlers {
		id, attempt, token := crashGiven(t, p)
		if attempt != 1 {
			t.Errorf("job %s begins with attempt %d", id, attempt)
		}
		had[id] = token
	}
	type given struct {
		id      string
		attempt int
		token   int64
		at      time.Time
	}
	got := make(chan given, jobs)
	crashWork(t, q, jobs, func(_ context.Context, d *queue.Delivery[string]) error {
		got <- given{d.ID, d.Attempt, int64(d.Guard().Token), time.Now()}
		return nil
	})
	first := etcdtest.Receive(t, crashSoon, "a job that is free", got) // so that the other does work
	if first.attempt != 1 {
		t.Errorf("%+v", first)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	killed, late := time.Now(), time.Duration(0)
	again := 0
	for range jobs - 1 {
		g := etcdtest.Receive(t, crashSoon, "a job", got)
		late = max(late, g.at.Sub(killed))
		if token, was := had[g.id]; was {
			again++
			if g.attempt != 2 || g.token <= token {
				t.Errorf("%+v, after token %d", g, token)
			}
		}
	}
	if again != handlers {
		t.Errorf("%d of %d jobs came back", again, handlers)
	}
	if late > crashBack {
		t.Errorf("the last job was back after %v, which is more than %v", late, crashBack)
	}
	t.Logf("the last job was back after %v", late)
	etcdtest.WaitQueueEmpty(t, crashSoon, cli, name)
}

// F7: a process is frozen for longer than its TTL. Another has its job; the first wakes, and acknowledges: that is refused, leaves
// nothing, and does not touch the other's delivery. It then goes on to work.
func TestTheLateAckOfAFrozenWorkerIsRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, name, link := c.Client(), "jobs", c.Link(0)
	q := crashQueue(cli, name)
	p := crashSpawn(t, link.Endpoint(), name, 1)
	ids := crashPush(t, q, "hold")
	id, _, token := crashGiven(t, p)
	if id != ids[0] {
		t.Errorf("it has %q, and not %q", id, ids[0])
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	link.Blackhole(etcdtest.Responses) // its kernel is awake, and would take what is sent
	frozen := time.Now()
	given, done := make(chan *queue.Delivery[string]), make(chan error)
	stop := crashWork(t, q, 1, func(_ context.Context, d *queue.Delivery[string]) error {
		given <- d
		return <-done
	})
	d := etcdtest.Receive(t, crashSoon, "the frozen worker's job", given)
	if took := time.Since(frozen); took > crashBack {
		t.Errorf("the job was back after %v, which is more than %v", took, crashBack)
	}
	if d.ID != id || d.Attempt != 2 || int64(d.Guard().Token) <= token {
		t.Errorf("job %s, attempt %d, token %d follows job %s, token %d", d.ID, d.Attempt, d.Guard().Token, id, token)
	}
	link.Drop()
	link.Heal()
	if err := p.Say("go on"); err != nil {
		t.Fatal(err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if said := crashSays(t, p, "context "); said != "true true" {
		t.Errorf("awake, its context has ended, for a loss: %s", said)
	}
	if said := crashSays(t, p, "ack "); said != "true" {
		t.Errorf("awake, its acknowledgement is refused as lost: %s", said)
	}
	if resp, err := cli.Get(t.Context(), name+"-late"); err != nil || resp.Count > 0 {
		t.Errorf("the late acknowledgement has left %v (%v)", resp, err)
	}
	if err := d.Context().Err(); err != nil {
		t.Errorf("the other's delivery has ended: %v", context.Cause(d.Context()))
	}
	if _, err := d.Guard().Commit(t.Context(), cli, clientv3.OpPut(name+"-mine", "")); err != nil {
		t.Errorf("the other's claim is gone: %v", err)
	}
	done <- nil
	etcdtest.WaitQueueEmpty(t, crashSoon, cli, name)
	stop()
	next := crashPush(t, q, "done")
	if id, attempt, _ := crashGiven(t, p); id != next[0] || attempt != 1 {
		t.Errorf("awake, it is given %s, attempt %d, and not %s", id, attempt, next[0])
	}
}

// Each process that takes the job dies of it. It is the only worker, started anew each time; the job is a dead letter after as many
// attempts as there are to be, and what waits behind it is done.
func TestAJobThatKillsItsWorkerEndsAsADeadLetter(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"jobs"
	q, root := crashQueue(cli, name), queue.Root+name+"//"
	id := crashPush(t, q, "kill")[0]
	endpoint := etcdtest.Shared(t).Endpoint(0)
	for n := range 3 {
		p := crashSpawn(t, endpoint, name, 1)
		if got, attempt, _ := crashGiven(t, p); got != id || attempt != n+1 {
			t.Fatalf("worker %d has %s, attempt %d", n+1, got, attempt)
		}
		etcdtest.Done(t, crashSoon, "the death of a worker", p.Done())
	}
	next := crashPush(t, q, "done")[0]
	p := crashSpawn(t, endpoint, name, 1)
	if got, attempt, _ := crashGiven(t, p); got != next || attempt != 1 {
		t.Errorf("the fourth worker has %s, attempt %d, and not what is next", got, attempt)
	}
	dead := etcdtest.WaitKey(t, crashSoon, cli, root+"dead/"+id).Kvs[0]
	header, item, _ := strings.Cut(string(dead.Value), "\n")
	if item != `"kill"` || !strings.Contains(header, `"n":3`) || !strings.Contains(header, "worker lost") {
		t.Errorf("the dead letter is %q, %q", header, item)
	}
	etcdtest.WaitQueueEmpty(t, crashSoon, cli, name)
}
