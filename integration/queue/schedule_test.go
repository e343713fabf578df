package queue_test

import (
	"context"
	"errors"
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

func TestAScheduleFiresNothingOfThePastAndThenEachTick(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	before := time.Now()
	d := scheduleRun(t, cli, name, "team/tick", "@every 100ms", queue.ScheduleOptions{Overlap: true}, scheduleItem)
	scheduleAwait(t, cli, name, "team/tick", "five ticks", func(i queue.ScheduleInfo) bool { return i.Last.Sub(before) > 700*time.Millisecond })
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
		t.Errorf("Schedule: %v", err)
	}
	scheduleContiguous(t, cli, name, "team/tick", before, 100*time.Millisecond, 5)
	if left, err := cli.Get(t.Context(), scheduleRoot(name)+"drivers/", clientv3.WithPrefix()); err != nil || left.Count != 0 {
		t.Errorf("left in line: %v, %v", left, err)
	}
}

// scheduleContiguous fails the test if a tick between the first job and the last has none, or one has two; or if the first is before since.
func scheduleContiguous(t *testing.T, cli *clientv3.Client, name, schedule string, since time.Time, every time.Duration, least int) {
	t.Helper()
	jobs := scheduleJobs(t, cli, name)
	var first, last time.Time
	for id, n := range jobs {
		_, tick, _ := queue.TickOf(id)
		if n != 1 {
			t.Errorf("%s has %d jobs", id, n)
		}
		if first.IsZero() || tick.Before(first) {
			first = tick
		}
		if tick.After(last) {
			last = tick
		}
	}
	want := int(last.Sub(first)/every) + 1
	if len(jobs) != want || want < least {
		t.Errorf("%d jobs for the %d ticks from %v to %v; want %d at least", len(jobs), want, first, last, least)
	}
	if first.Before(since.Truncate(time.Millisecond)) {
		t.Errorf("the first is of %v, and the schedule of %v", first, since)
	}
	if s, err := scheduleState(t.Context(), cli, name, schedule); err != nil || !s.Last.Equal(last) {
		t.Errorf("the state is %+v (%v), the last tick %v", s, err, last)
	}
}

func TestOneDrivesAndAnotherGoesOnWhenItIsGone(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	before := time.Now()
	opts := queue.ScheduleOptions{Overlap: true}
	first := scheduleRun(t, cli, name, "s", "@every 50ms", opts, scheduleItem)
	scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Job != "" })
	second := scheduleRun(t, cli, name, "s", "@every 50ms", opts, scheduleItem)
	etcdtest.WaitKeys(t, scheduleSoon, cli, scheduleRoot(name)+"drivers/s//", 2)
	if n := second.fired.Load(); n != 0 {
		t.Errorf("who waits in line has made %d jobs", n)
	}
	first.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "the end of the first", first.done); err != nil {
		t.Error(err)
	}
	at := time.Now()
	scheduleAwait(t, cli, name, "s", "a job of the second", func(i queue.ScheduleInfo) bool { return i.Last.After(at) })
	second.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "the end of the second", second.done); err != nil {
		t.Error(err)
	}
	scheduleContiguous(t, cli, name, "s", before, 50*time.Millisecond, 2)
}

func TestATickIsSkippedWhileTheJobBeforeItIsInTheQueue(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	scheduleRun(t, cli, name, "s", "@every 50ms", queue.ScheduleOptions{}, scheduleItem)
	s := scheduleAwait(t, cli, name, "s", "skipping", func(i queue.ScheduleInfo) bool { return i.Skipped >= 3 })
	jobs := scheduleJobs(t, cli, name)
	if len(jobs) != 1 || jobs[s.Job] != 1 {
		t.Fatalf("jobs: %v; the last one is %s", jobs, s.Job)
	}
	// What an acknowledgement deletes.
	place := etcdtest.WaitKey(t, scheduleSoon, cli, scheduleRoot(name)+"ids/"+s.Job).Kvs[0].Value
	if _, err := cli.Txn(t.Context()).Then(
		clientv3.OpDelete(scheduleRoot(name)+"line/jobs/"+string(place)),
		clientv3.OpDelete(scheduleRoot(name)+"ids/"+s.Job),
	).Commit(); err != nil {
		t.Fatal(err)
	}
	next := scheduleAwait(t, cli, name, "s", "fired again", func(i queue.ScheduleInfo) bool { return i.Job != s.Job })
	if jobs := scheduleJobs(t, cli, name); len(jobs) != 1 || jobs[next.Job] != 1 {
		t.Errorf("jobs: %v; the last one is %s", jobs, next.Job)
	}
}

func TestWhatHappensToTicksThatNobodySaw(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opts queue.ScheduleOptions
		want int
	}{
		{queue.ScheduleOptions{}, 0},
		{queue.ScheduleOptions{Missed: queue.MissedOnce}, 1},
		{queue.ScheduleOptions{Missed: queue.MissedAll, Overlap: true}, 100},
		{queue.ScheduleOptions{Missed: queue.MissedAll, Overlap: true, MaxLate: 7}, 7},
	} {
		t.Run(fmt.Sprintf("%v %d", c.opts.Missed, c.opts.MaxLate), func(t *testing.T) {
			t.Parallel()
			cli, name := etcdtest.Client(t), scheduleName(t)
			const cron = "0 0 * * *"
			today := time.Now().UTC().Truncate(24 * time.Hour)
			if time.Since(today) < 2*time.Minute {
				t.Skip("today's tick is in time yet")
			}
			scheduleWrite(t, cli, name, "s", cron, today.AddDate(0, 0, -100))
			scheduleRun(t, cli, name, "s", cron, c.opts, scheduleItem)
			scheduleAwait(t, cli, name, "s", "up to date", func(i queue.ScheduleInfo) bool { return i.Last.Equal(today) })
			jobs := scheduleJobs(t, cli, name)
			if len(jobs) != c.want {
				t.Errorf("%d jobs", len(jobs))
			}
			for n := range c.want { // the newest
				if id := "s@" + today.AddDate(0, 0, -n).Format(time.RFC3339); jobs[id] != 1 {
					t.Errorf("%s: %d jobs", id, jobs[id])
				}
			}
		})
	}
}

func TestAScheduleThatIsStartedAgainGoesOnFromItsLastTick(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	before := time.Now()
	opts := queue.ScheduleOptions{Overlap: true}
	d := scheduleRun(t, cli, name, "s", "@every 100ms", opts, scheduleItem)
	s := scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Job != "" })
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "the end of the first", d.done); err != nil {
		t.Error(err)
	}
	etcdtest.Eventually(t, scheduleSoon, "some ticks without anybody", func(context.Context) error {
		if time.Since(s.Last) < time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	d = scheduleRun(t, cli, name, "s", "@every 100ms", opts, scheduleItem)
	at := time.Now()
	scheduleAwait(t, cli, name, "s", "up to date", func(i queue.ScheduleInfo) bool { return i.Last.After(at) })
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "the end of the second", d.done); err != nil {
		t.Error(err)
	}
	scheduleContiguous(t, cli, name, "s", before, 100*time.Millisecond, 10)
}

func TestAClockThatWasAheadFiresNothingTwice(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	ahead := time.Now().Add(2 * time.Second)
	scheduleWrite(t, cli, name, "s", "@every 100ms", ahead)
	scheduleRun(t, cli, name, "s", "@every 100ms", queue.ScheduleOptions{Overlap: true}, scheduleItem)
	scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Job != "" })
	for id := range scheduleJobs(t, cli, name) {
		if _, tick, _ := queue.TickOf(id); !tick.After(ahead) {
			t.Errorf("%s is of before %v", id, ahead)
		}
	}
}

func TestAChangedExpressionDoesNotMakeUpForThePast(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	scheduleWrite(t, cli, name, "s", "@yearly", time.Now().AddDate(0, -5, 0))
	opts := queue.ScheduleOptions{Missed: queue.MissedAll, Overlap: true, Grace: 2 * time.Second}
	start := time.Now()
	scheduleRun(t, cli, name, "s", "@every 500ms", opts, scheduleItem)
	s := scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Last.After(start) })
	if s.Cron != "@every 500ms" || s.Next.Sub(s.Last) != 500*time.Millisecond {
		t.Errorf("%+v", s)
	}
	jobs := scheduleJobs(t, cli, name)
	for id := range jobs {
		if _, tick, _ := queue.TickOf(id); tick.Before(start.Add(-3 * time.Second)) {
			t.Errorf("%s", id)
		}
	}
	if len(jobs) < 4 {
		t.Errorf("the grace is not made up for: %v", jobs)
	}
}

func TestAJobThatCannotBeMadeIsTriedAgainAndThenSkipped(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	var calls atomic.Int64
	var bad atomic.Value
	opts := queue.ScheduleOptions{Overlap: true, Grace: time.Second}
	scheduleRun(t, cli, name, "s", "@every 300ms", opts, func(tick time.Time) (string, *queue.PushOptions, error) {
		bad.CompareAndSwap(nil, tick)
		if tick.Equal(bad.Load().(time.Time)) {
			calls.Add(1)
			return "", nil, errors.New("not now")
		}
		return scheduleItem(tick)
	})
	s := scheduleAwait(t, cli, name, "s", "a job", func(i queue.ScheduleInfo) bool { return i.Job != "" })
	if calls.Load() < 2 || s.Job == "s@"+bad.Load().(time.Time).UTC().Format(time.RFC3339Nano) {
		t.Errorf("%d calls for %v, and the job is %s", calls.Load(), bad.Load(), s.Job)
	}
}

func TestAScheduleIsDeletedOnceNobodyDrivesIt(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	q := queue.New[string](cli, name, nil)
	d := scheduleRun(t, cli, name, "s", "@hourly", queue.ScheduleOptions{}, scheduleItem)
	scheduleStarted(t, cli, name, "s")
	scheduleWrite(t, cli, name, "s/t", "@daily", time.Now())
	if _, err := cli.Put(t.Context(), scheduleRoot(name)+"schedules/u", "x"); err != nil {
		t.Fatal(err)
	}
	if err := q.Unschedule(t.Context(), "s"); !errors.Is(err, queue.ErrScheduled) || !strings.Contains(err.Error(), "process") {
		t.Errorf("while it runs: %v", err)
	}
	if err := q.Unschedule(t.Context(), "s/t"); err != nil {
		t.Errorf("one below: %v", err)
	}
	all, err := q.Schedules(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != "s" || all[0].Next.Sub(all[0].Last) > time.Hour || all[1].Name != "u" || all[1].Err == nil {
		t.Errorf("%+v, %v", all, err)
	}
	d.cancel()
	if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); err != nil {
		t.Error(err)
	}
	for _, want := range []error{nil, queue.ErrUnknownID} {
		if err := q.Unschedule(t.Context(), "s"); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func TestSchedulesShareAKeepersSessionAndEndWithIt(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), scheduleName(t)
	keeper := session.NewKeeper(cli, scheduleShort)
	opts := queue.ScheduleOptions{Sessions: keeper}
	a := scheduleRun(t, cli, name, "a", "@every 100ms", opts, scheduleItem)
	b := scheduleRun(t, cli, name, "b", "@every 100ms", opts, scheduleItem)
	line := etcdtest.WaitKeys(t, scheduleSoon, cli, scheduleRoot(name)+"drivers/", 2)
	if line.Kvs[0].Lease != line.Kvs[1].Lease {
		t.Errorf("each has a lease of its own: %v", line.Kvs)
	}
	if err := keeper.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, d := range []*scheduleDriver{a, b} {
		if err := etcdtest.Receive(t, scheduleSoon, "Schedule's end", d.done); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Schedule: %v", err)
		}
	}
}
