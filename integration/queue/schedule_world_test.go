package queue_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// scheduleSoon is the patience with what has no bound of its own.
	scheduleSoon = 20 * time.Second

	scheduleTTL = 2 * time.Second
)

var scheduleShort = &session.Options{TTL: scheduleTTL}

// scheduleName is a queue name of the test's own.
func scheduleName(t *testing.T) string { return strings.TrimSuffix(etcdtest.Prefix(t), "/") }

func scheduleRoot(name string) string { return queue.Root + name + "//" }

// scheduleItem is the item of a tick: the tick, in words.
func scheduleItem(tick time.Time) (string, *queue.PushOptions, error) {
	return tick.UTC().Format(time.RFC3339Nano), nil, nil
}

// scheduleDriver is a Schedule that runs.
type scheduleDriver struct {
	cancel context.CancelFunc
	done   chan error
	fired  atomic.Int64 // calls of job
}

// scheduleRun runs a Schedule until its cancel is called, or the test ends.
func scheduleRun(
	t *testing.T, cli *clientv3.Client, name, schedule, cron string, opts queue.ScheduleOptions,
	job func(time.Time) (string, *queue.PushOptions, error),
) *scheduleDriver {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &scheduleDriver{cancel: cancel, done: make(chan error, 1)}
	if opts.Session == nil && opts.Sessions == nil {
		opts.Session = scheduleShort
	}
	q := queue.New[string](cli, name, nil)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		d.done <- queue.Schedule(ctx, q, schedule, cron, &opts, func(tick time.Time) (string, *queue.PushOptions, error) {
			d.fired.Add(1)
			return job(tick)
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
	})
	return d
}

// scheduleJobs reads the jobs that were ever put in a queue: by ID, how often.
func scheduleJobs(t *testing.T, cli *clientv3.Client, name string) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scheduleSoon)
	defer cancel()
	resp, err := cli.Get(ctx, scheduleRoot(name)+"line/jobs/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	jobs := map[string]int{}
	for _, kv := range resp.Kvs {
		head, item, ok := strings.Cut(string(kv.Value), "\n")
		id := strings.TrimSuffix(strings.TrimPrefix(head, `{"id":"`), `"}`)
		_, tick, isTick := queue.TickOf(id)
		if !ok || !isTick || item != fmt.Sprintf("%q", tick.Format(time.RFC3339Nano)) {
			t.Fatalf("%s holds %q", kv.Key, kv.Value)
		}
		jobs[id]++
	}
	return jobs
}

// scheduleState reads a schedule as it is listed; nil if it is not there.
func scheduleState(ctx context.Context, cli *clientv3.Client, name, schedule string) (*queue.ScheduleInfo, error) {
	infos, err := queue.New[string](cli, name, nil).Schedules(ctx)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if info.Name == schedule {
			return &info, info.Err
		}
	}
	return nil, nil
}

// scheduleAwait waits until a schedule's state is as it should be.
func scheduleAwait(t *testing.T, cli *clientv3.Client, name, schedule, what string, ok func(queue.ScheduleInfo) bool) queue.ScheduleInfo {
	t.Helper()
	var last *queue.ScheduleInfo
	etcdtest.Eventually(t, scheduleSoon, what, func(ctx context.Context) (err error) {
		if last, err = scheduleState(ctx, cli, name, schedule); err != nil {
			return err
		}
		if last == nil || !ok(*last) {
			return fmt.Errorf("it is %+v", last)
		}
		return nil
	})
	return *last
}

// scheduleStarted waits for a schedule to have begun.
func scheduleStarted(t *testing.T, cli *clientv3.Client, name, schedule string) queue.ScheduleInfo {
	t.Helper()
	return scheduleAwait(t, cli, name, schedule, "started", func(queue.ScheduleInfo) bool { return true })
}

// scheduleWrite writes a schedule's state as if it had last been driven then.
func scheduleWrite(t *testing.T, cli *clientv3.Client, name, schedule, cron string, tick time.Time) {
	t.Helper()
	value := fmt.Sprintf(`{"tick":%q,"cron":%q,"zone":"UTC"}`, tick.UTC().Format(time.RFC3339Nano), cron)
	if _, err := cli.Put(t.Context(), scheduleRoot(name)+"schedules/"+schedule, value); err != nil {
		t.Fatal(err)
	}
}
