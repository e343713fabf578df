package queue

import (
	"context"
	"testing"
	"time"
)

// Nobody has installed a provider in this process: then measuring and tracing are to cost nothing.
func TestWhatNobodyMeasuresIsNotAllocated(t *testing.T) {
	m := newMeasures("q")
	ctx, end := context.WithCancelCause(t.Context())
	s := &shift{trade: &trade{measures: m, values: t.Context()}, life: t.Context()}
	c := &claim{shift: s, place: place{stem: stemOf(time.Now().UnixMicro(), "p")}, record: record{Trace: "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"}}
	c.ctx = &owned{ctx, s, end}
	ids := []string{"id"}
	for what, do := range map[string]func(){
		"a push": func() {
			_, span := m.pushSpan(ctx)
			m.pushed(ctx, 1)
			m.pushDone(span, 1, ids, nil)
		},
		"a delivery": func() {
			ctx, r := m.begin(c)
			if ctx != context.Context(c.ctx) {
				t.Error("the handler's context is not the claim's")
			}
			m.end(ctx, c, r)
			s.settled(endAcked, nil)
			s.settled(endAcked, errClaimDeleted)
		},
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// What a delivery costs beside its handler, without a provider: as much as in TestWhatNobodyMeasuresIsNotAllocated.
func BenchmarkUnmeasured(b *testing.B) {
	m := newMeasures("q")
	s := &shift{trade: &trade{measures: m, values: b.Context()}, life: b.Context()}
	c := &claim{shift: s, place: place{stem: stemOf(time.Now().UnixMicro(), "p")}}
	c.ctx = &owned{b.Context(), s, func(error) {}}
	b.ReportAllocs()
	for b.Loop() {
		ctx, r := m.begin(c)
		m.end(ctx, c, r)
		s.settled(endAcked, nil)
	}
}

func TestAWindowKnowsTheOldestJobThatNobodyHas(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Microsecond)
	path := func(priority int, age time.Duration) string {
		return place{priority: priority, stem: stemOf(now.Add(-age).UnixMicro(), "p")}.path()
	}
	oldest := func(win *window, want time.Duration, wantKnown bool) {
		t.Helper()
		if age, known := win.oldest(now); known != wantKnown || age != want {
			t.Errorf("the oldest waits for %v, %v; want %v, %v", age, known, want, wantKnown)
		}
	}
	w, win := newWorld(), newWindow()
	oldest(win, 0, false) // nothing was read
	win.begin(testKeys, survey{})
	oldest(win, 0, true)

	first, second, low, later := path(0, 3*time.Second), path(0, 2*time.Second), path(-1, time.Second), path(1, -time.Hour)
	for _, p := range []string{first, second, low, later} {
		w.put(testKeys.jobs()+p, "\n")
	}
	w.bring(win, w.revision)
	oldest(win, 3*time.Second, true)
	w.put(testKeys.claims()+first, "worker")
	w.bring(win, w.revision)
	oldest(win, 2*time.Second, true)
	w.remove(testKeys.jobs()+first, testKeys.claims()+first, testKeys.jobs()+second)
	w.bring(win, w.revision)
	oldest(win, time.Second, true)
	w.remove(testKeys.jobs() + low)
	w.bring(win, w.revision)
	oldest(win, 0, true) // one of the next hour is none that waits

	win = newWindow()
	win.begin(testKeys, survey{heads: []string{first}})
	oldest(win, 0, false) // a line that was not read yet
}
