package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/session"
)

func noJob(time.Time) (string, *PushOptions, error) { return "", nil, nil }

func TestBadArgumentsOfAScheduleAreRefused(t *testing.T) {
	good := New[string](nil, "mail", nil)
	for _, c := range []struct {
		q    *Queue[string]
		name string
		cron string
		opts *ScheduleOptions
		job  func(time.Time) (string, *PushOptions, error)
		want string
	}{
		{New[string](nil, "", nil), "s", "@hourly", nil, noJob, `queue name "" refused`},
		{good, "", "@hourly", nil, noJob, `queue "mail": schedule name "" refused: it is empty`},
		{good, "a//b", "@hourly", nil, noJob, "empty segment"},
		{good, strings.Repeat("s", 201), "@hourly", nil, noJob, "longer than 200 bytes"},
		{good, "s", "@hourly", nil, nil, `queue "mail": schedule "s": the function that makes the jobs is nil`},
		{good, "s", "0 0 31 2 *", nil, noJob, `queue "mail": schedule "s": cron expression "0 0 31 2 *" refused: there is no such day`},
		{good, "s", "@hourly", &ScheduleOptions{Location: time.Local}, noJob, "time.Local"},
		{good, "s", "@hourly", &ScheduleOptions{Missed: 7}, noJob, "Missed(7)"},
		{good, "s", "@hourly", &ScheduleOptions{Missed: MissedAll}, noJob, "without Overlap"},
		{good, "s", "@hourly", &ScheduleOptions{Grace: time.Millisecond}, noJob, "Grace must be 1s"},
		{good, "s", "@hourly", &ScheduleOptions{MaxLate: -1}, noJob, "MaxLate"},
		{good, "s", "@hourly", &ScheduleOptions{Session: &session.Options{TTL: -1}}, noJob, "TTL"},
		{good, "s", "@hourly", &ScheduleOptions{Session: &session.Options{}, Sessions: &session.Keeper{}}, noJob, "both"},
	} {
		err := Schedule(t.Context(), c.q, c.name, c.cron, c.opts, c.job)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q %+v: %v, want %s", c.name, c.cron, c.opts, err, c.want)
		}
	}
}

func TestAJobsIDTellsItsTick(t *testing.T) {
	tick := time.Date(2026, 5, 6, 7, 8, 9, 250e6, time.UTC)
	for _, name := range []string{"nightly", "team/nightly", "a@b"} {
		id := tickID(name, tick.In(zoneOf(t, "Europe/Berlin")))
		if id != name+"@2026-05-06T07:08:09.25Z" {
			t.Error(id)
		}
		if schedule, at, ok := TickOf(id); !ok || schedule != name || !at.Equal(tick) {
			t.Errorf("%s: %s, %v, %t", id, schedule, at, ok)
		}
	}
	for _, id := range []string{"", "@", "mail", "@2026-05-06T07:08:09Z", "a@b", "a@2026-05-06T09:08:09+02:00", "a@2026-05-06T07:08:09.0Z"} {
		if schedule, at, ok := TickOf(id); ok {
			t.Errorf("%q is taken for the tick %v of %q", id, at, schedule)
		}
	}
}

func TestProgressThatSomebodyElseHasWritten(t *testing.T) {
	for _, value := range []string{"", "{}", "null", "[]", `{"tick":"yesterday"}`, `{"tick":7}`, "\xff"} {
		if _, err := decodeProgress([]*mvccpb.KeyValue{{Key: []byte("k"), Value: []byte(value), ModRevision: 7}}); !errors.Is(err, errProgress) {
			t.Errorf("%q: %v", value, err)
		}
	}
	p := progress{Tick: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC), Cron: "@hourly", Zone: "UTC", Job: "x", Skipped: 3}
	k, err := decodeProgress([]*mvccpb.KeyValue{{Value: []byte(p.encode()), ModRevision: 7}})
	if err != nil || k.progress != p || k.revision != 7 {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestTheJobOfATick(t *testing.T) {
	tick := time.Date(2026, 5, 6, 7, 8, 0, 0, time.UTC)
	var asked time.Time
	opts := &PushOptions{}
	q := New[string](nil, "mail", nil)
	s, err := newSchedule(q, "s", "@hourly", &ScheduleOptions{Location: zoneOf(t, "Europe/Berlin")}, func(tick time.Time) (string, *PushOptions, error) {
		asked = tick
		return "x", opts, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := known{progress: progress{Job: "s@before"}}
	j, err := s.prepare(before, tick)
	if err != nil || j.id != "s@2026-05-06T07:08:00Z" || asked.Format(time.RFC3339) != "2026-05-06T09:08:00+02:00" {
		t.Errorf("%+v, %v, asked for %v", j, err, asked)
	}
	if !compares(j.free, q.keys.waiting("s@before")) || !compares(j.free, q.keys.waiting(j.id)) {
		t.Errorf("compared: %v", j.free)
	}
	s.opts.Overlap = true
	if j, err = s.prepare(before, tick); err != nil || compares(j.free, q.keys.waiting("s@before")) {
		t.Errorf("compared though jobs may overlap: %v, %v", j.free, err)
	}
	opts.ID = "mine"
	if _, err = s.prepare(before, tick); !errors.Is(err, errTickHasID) {
		t.Error(err)
	}
}

func compares(cmps []clientv3.Cmp, key string) bool {
	for _, c := range cmps {
		if string(c.KeyBytes()) == key {
			return true
		}
	}
	return false
}

func TestTheWaitForATickEndsAtItOrWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, d := range []time.Duration{-time.Hour, 0, time.Millisecond, 999 * time.Millisecond, time.Second, 90 * time.Minute, 26 * time.Hour} {
			start := time.Now()
			sleepUntil(t.Context(), start.Round(0).Add(d))
			if took := time.Since(start); took != max(0, d) {
				t.Errorf("%v: took %v", d, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		start := time.Now()
		sleepUntil(ctx, time.Time{})
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("for ever: %v", took)
		}
	})
}
