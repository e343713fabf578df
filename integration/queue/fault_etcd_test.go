package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

// F12: etcd is restored from a backup, and knows less than it did. What was done since may be delivered again, under the ID
// that it had; what was pushed since is gone with the backup; everything that is there is done, also what is pushed thereafter.
func TestARestoredBackupIsWorkedOff(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli := c.Client()
	q := queue.New[int](cli, "restored", nil)
	push := func(items ...int) []string {
		// The first call after the restoration may be lost on the old connection. That of a push would be one of which nobody can
		// say what became of it: what told of it is gone with the history.
		etcdtest.Eventually(t, faultSoon, "etcd's answer", func(ctx context.Context) error {
			_, err := cli.Get(ctx, "connected")
			return err
		})
		ctx, cancel := context.WithTimeout(t.Context(), faultSoon)
		defer cancel()
		ids, err := q.PushMany(ctx, items, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	before := push(1, 2, 3)
	b := c.Backup()
	done := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- queue.New[int](c.Client(), "restored", nil).Work(ctx, crashOptions(2), func(_ context.Context, d *queue.Delivery[int]) error {
			done <- d.ID
			return nil
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		etcdtest.Receive(t, faultSoon, "a job of before", done)
	}
	for n := range 50 {
		push(100 + n)
	}
	etcdtest.WaitQueueEmpty(t, faultSoon, c.Client(), "restored")
	for len(done) > 0 {
		<-done
	}
	c.Restore(b)
	after := push(4)
	missing := map[string]bool{after[0]: true}
	for _, id := range before {
		missing[id] = true
	}
	for len(missing) > 0 {
		delete(missing, etcdtest.Receive(t, faultSoon, "the jobs of the backup, and the one after it", done))
	}
	etcdtest.WaitQueueEmpty(t, faultSoon, c.Client(), "restored")
}

// F13: the database is full. What is done is acknowledged, what is pushed is refused and says so, and when there is space again
// all goes on.
func TestAFullDatabaseTakesAcknowledgementsAndNoPushes(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	cli := w.c.Client()
	q := w.queue(cli)
	handle, has, goOn := w.gate()
	w.work(cli, 2, faultTTL, handle)
	w.push(q, 10)
	held := map[string]bool{}
	for range 2 {
		held[etcdtest.Receive(t, faultSoon, "a delivery", has).ID] = true
	}
	w.c.FillUp()
	if err := w.tryPush(q, 1, faultSoon); retry.EtcdError(err) != rpctypes.ErrNoSpace { //nolint:errorlint // EtcdError returns the very variable
		t.Errorf("a push: %v, want ErrNoSpace", err)
	}
	goOn()
	oracle := w.c.Oracle(0)
	for id := range held {
		etcdtest.Eventually(t, faultSoon, "what was held is acknowledged", func(ctx context.Context) error {
			resp, err := oracle.Get(ctx, w.root+"line/jobs/100/"+id)
			if err == nil && resp.Count > 0 {
				err = errors.New("it is there")
			}
			return err
		})
	}
	w.c.FreeUp()
	freed := time.Now()
	w.push(q, 10)
	w.empty()
	if took := time.Since(freed); took > 5*time.Second {
		t.Errorf("all went on after %v", took)
	}
	faultUndisturbed(t, w.judge())
}

// F15: all members are restarted, one after the other, and at once.
func TestARestartOfAllMembersLosesNothing(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 3)
	w.work(w.c.Client(), 4, faultTTL, w.done)
	w.work(w.c.Client(), 4, faultTTL, w.done)
	stop := w.pushing(w.c.Client(), faultSoon)
	for member := range 3 {
		w.c.WaitLeader()
		w.c.Stop(member)
		stormPass(200 * time.Millisecond)
		w.c.Restart(member)
		w.c.WaitLeader()
		stormPass(200 * time.Millisecond)
	}
	w.c.Stop()
	stormPass(500 * time.Millisecond)
	w.c.Restart()
	w.c.WaitLeader()
	stormPass(500 * time.Millisecond)
	stop()
	w.empty()
	w.judge()
}
