package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// Where etcd frees a key before its holder can know, belief may overlap. Writes may not.

// noticed is how long after the event, or after its wake-up, a holder is told at the latest.
const noticed = time.Second

// way is a way to hold.
type way struct {
	name   string
	kind   kind
	weight int
}

var ways = []way{
	{"mutex", mutex, mutexSize},
	{"writer", rwMutex, rwSize},
	{"reader", rwMutex, 1},
	{"permits", semaphore, permits - 1},
}

// stubborn writes under its guard until ctx ends, whatever has become of its hold, and tells what came of each write.
func stubborn(ctx context.Context, h hold, kv clientv3.KV, key string, tell func(outcome)) {
	for n := 0; ctx.Err() == nil; n++ {
		attempt, cancel := context.WithTimeout(ctx, answerIn)
		_, err := h.Commit(attempt, kv, clientv3.OpPut(key, "old "+strconv.Itoa(n)))
		cancel()
		switch {
		case err == nil:
			tell(accepted)
		case errors.Is(err, fence.ErrLost):
			tell(refused)
		default:
			tell(unknown)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// scene is a holder that will be lost, somebody who waits for its end, and a watch of all they do.
type scene struct {
	way
	t          *testing.T
	oracle     *clientv3.Client
	name, data string
	events     clientv3.WatchChan
	next       chan hold
}

func newScene(t *testing.T, w way) *scene {
	t.Helper()
	prefix := etcdtest.Prefix(t)
	s := &scene{way: w, t: t, oracle: etcdtest.Client(t), name: prefix + "name", data: prefix + "data", next: make(chan hold, 1)}
	s.events = s.oracle.Watch(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the watch", s.events)
	return s
}

// wait has somebody wait who cannot hold beside the holder.
func (s *scene) wait() {
	s.t.Helper()
	l := s.kind.open(s.oracle, time.Minute)
	var waiting sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	s.t.Cleanup(func() {
		cancel()
		waiting.Wait()
		l.Close(ctx)
	})
	waiting.Go(func() {
		h, err := l.Lock(ctx, s.name, s.kind.size)
		if err != nil {
			s.t.Errorf("the next one: %v", err)
			return
		}
		s.next <- h
	})
	etcdtest.WaitKeys(s.t, soon, s.oracle, s.name+"/", 2)
}

// follow has the next one hold and write.
func (s *scene) follow() hold {
	s.t.Helper()
	next := etcdtest.Receive(s.t, soon, "the next one's turn", s.next)
	s.write(next, "new")
	return next
}

// write writes as one who holds.
func (s *scene) write(h hold, value string) {
	s.t.Helper()
	if _, err := h.Commit(h.Context(), s.oracle, clientv3.OpPut(s.data, value)); err != nil {
		s.t.Fatalf("the one who holds: %v", err)
	}
}

// judge fails the test if anything of the old holder's was written after its key had gone. The last of next's writes tells that
// all has been seen.
func (s *scene) judge(key string, next hold) {
	s.t.Helper()
	const last = "last"
	s.write(next, last)
	before, gone := 0, int64(0)
	for {
		for _, ev := range etcdtest.Receive(s.t, soon, "what was written", s.events).Events {
			switch {
			case string(ev.Kv.Key) == key && ev.Type == clientv3.EventTypeDelete:
				gone = ev.Kv.ModRevision
			case string(ev.Kv.Key) != s.data:
			case string(ev.Kv.Value) == last:
				if before == 0 || gone == 0 {
					s.t.Errorf("the old holder wrote %d times, and its key went at revision %d: nothing was seen", before, gone)
				}
				return
			case string(ev.Kv.Value) == "new":
			case gone == 0:
				before++
			default:
				s.t.Errorf("the old holder wrote at revision %d, and its key had gone at %d", ev.Kv.ModRevision, gone)
			}
		}
	}
}

// Faults F7 and F8.
func TestAFrozenRevokedOrDeletedHolderWritesNothing(t *testing.T) {
	t.Parallel()
	for how, lose := range map[string]func(*testing.T, way){
		"frozen": freeze,
		"revoked": func(t *testing.T, w way) {
			takeAway(t, w, func(c *etcdtest.Cluster, _ string, lease clientv3.LeaseID) { c.Revoke(lease) })
		},
		"deleted": func(t *testing.T, w way) {
			takeAway(t, w, func(c *etcdtest.Cluster, key string, _ clientv3.LeaseID) { c.Delete(key) })
		},
	} {
		for _, w := range ways {
			t.Run(w.name+" "+how, func(t *testing.T) {
				t.Parallel()
				lose(t, w)
			})
		}
	}
}

// takeAway has a holder in this process lose its key in some way while it writes.
func takeAway(t *testing.T, w way, event func(c *etcdtest.Cluster, key string, lease clientv3.LeaseID)) {
	t.Helper()
	s := newScene(t, w)
	cli := etcdtest.Client(t)
	l := w.kind.open(cli, time.Minute)
	defer l.Close(t.Context())
	old, err := l.Lock(t.Context(), s.name, w.weight)
	if err != nil {
		t.Fatal(err)
	}
	s.wait()
	key := old.(ourHold).Guard().Key
	found := etcdtest.WaitKey(t, soon, s.oracle, key)

	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan outcome)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	writing.Go(func() {
		stubborn(ctx, old, cli, s.data, func(o outcome) {
			select {
			case outcomes <- o:
			case <-ctx.Done():
			}
		})
	})
	expect(t, outcomes, accepted, 5)
	event(etcdtest.Shared(t), key, clientv3.LeaseID(found.Kvs[0].Lease))
	etcdtest.Done(t, noticed, "telling the holder", old.Context().Done())
	next := s.follow()
	expect(t, outcomes, refused, 5)
	s.judge(key, next)
}

// expect waits until some outcome has come some times, among others.
func expect(t *testing.T, outcomes <-chan outcome, want outcome, times int) {
	t.Helper()
	up := time.NewTimer(soon)
	defer up.Stop()
	for times > 0 {
		select {
		case o := <-outcomes:
			if o == want {
				times--
			}
		case <-up.C:
			t.Fatalf("%d more writes ought to have been %v", times, want)
		}
	}
}

func init() {
	etcdproc.Child("holder", func() {
		if err := holdOn(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	})
}

// holdOn is what the child process does: it holds, writes for ever, and says what it is told and what came of its writes.
func holdOn(endpoint, wayName, name, data string) error {
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, w := range ways {
		if w.name != wayName {
			continue
		}
		h, err := w.kind.open(cli, shortTTL).Lock(ctx, name, w.weight)
		if err != nil {
			return err
		}
		fmt.Println("holds", h.(ourHold).Guard().Key)
		context.AfterFunc(h.Context(), func() { fmt.Println("told") })
		stubborn(ctx, h, cli, data, func(o outcome) { fmt.Println(o) })
	}
	return fmt.Errorf("no way %q", wayName)
}

// freeze has a holder in another process lose its key by sleeping for too long, in the midst of writing.
func freeze(t *testing.T, w way) {
	t.Helper()
	s := newScene(t, w)
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "holder", Args: []string{etcdtest.Shared(t).Endpoint(0), w.name, s.name, s.data}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	says := func(within time.Duration, what string) (rest string) {
		t.Helper()
		var err error
		etcdtest.Returns(t, within, "the child's "+what, func() { rest, err = p.Expect(t.Context(), what) })
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Stderr())
		}
		return rest
	}
	key := says(soon, "holds ")
	s.wait()
	for range 5 {
		says(soon, accepted.String())
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	next := s.follow()
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	says(noticed, "told")
	for range 5 {
		says(soon, refused.String())
	}
	s.judge(key, next)
}
