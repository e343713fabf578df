package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// adminLetter is a dead letter of priority 10, pushed at the beginning of 1970.
func adminLetter(header string) string {
	return `{"n":3,"err":"boom","place":"090/0000000000001-aaaaaaaa.0123456789abcdef","died":"2026-01-02T03:04:05Z"` + header + "}\nitem"
}

func TestWhatIsRedrivenStandsAtTheEndOfTheLine(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	w.put("dead/0000000000001-aaaaaaaa", adminLetter(`,"key":"k","trace":"00-x"`))
	w.put("dead/mail/7", adminLetter(`,"id":"mail/7","at":"2026-01-01T00:00:00Z"`))
	w.put("dead/unplaced", "\nitem")
	w.job(10, time.Now().Add(-time.Second), "", "before")
	before := time.Now()
	if n, err := w.q.Redrive(t.Context(), "mail/7", "0000000000001-aaaaaaaa", "mail/7", "unplaced"); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	all := adminMust(w.q.Peek(t.Context(), 0))(t)
	if len(all) != 4 || all[0].Item != "before" || all[1].ID != "mail/7" || all[2].ID != "0000000000001-aaaaaaaa" || all[3].ID != "unplaced" {
		t.Fatalf("%+v", all)
	}
	for _, i := range all[1:3] {
		if i.Item != "item" || i.Priority != 10 || i.Attempts != 0 || i.LastErr != "" || !i.Died.IsZero() || !i.Due.IsZero() {
			t.Errorf("%+v", i)
		}
	}
	if !all[1].Pushed.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || !all[2].Pushed.Equal(time.UnixMicro(1)) || all[2].Key != "k" || all[3].Priority != 0 {
		t.Errorf("%+v", all)
	}
	paths := w.names("line/jobs/")
	// sha256("k") begins so.
	if !strings.HasSuffix(paths[2], ".8254c329a92850f6") || strings.Contains(paths[1], ".") || !strings.HasPrefix(paths[1], fmt.Sprintf("090/%013x", before.UnixMicro())[:11]) {
		t.Errorf("%q", paths)
	}
	if got := w.names("ids/"); !slices.Equal(got, []string{"mail/7", "unplaced"}) || w.get("ids/mail/7") != paths[1] {
		t.Errorf("markers %q, %q", got, w.get("ids/mail/7"))
	}
	if got := w.names("dead/"); len(got) != 0 {
		t.Errorf("%q are dead still", got)
	}
	if !strings.Contains(w.get("line/jobs/"+paths[2]), `"trace":"00-x"`) {
		t.Errorf("%q", w.get("line/jobs/"+paths[2]))
	}
}

func TestWhatCannotBeRedrivenIsNamedAndTheOthersAre(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	w.put("dead/again", adminLetter(`,"id":"again"`))
	w.put("ids/again", "100/0000000000002-a")
	w.put("dead/good", adminLetter(`,"id":"good"`))
	w.put("dead/odd", "garbage")
	n, err := w.q.Redrive(t.Context(), "none", "again", "odd", "good", "")
	if n != 1 || !errors.Is(err, queue.ErrUnknownID) || !errors.Is(err, queue.ErrQueued) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("%d, %v", n, err)
	}
	for _, words := range []string{
		`dead letter "none", "": queue: unknown ID; `, `dead letter "again": queue: a job with that ID is in the queue; `, `dead letter "odd": not a job`,
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("no %q in %v", words, err)
		}
	}
	if n, err := w.q.Redrive(t.Context()); n != 0 || !errors.Is(err, queue.ErrQueued) || errors.Is(err, queue.ErrUnknownID) {
		t.Errorf("%d, %v", n, err)
	}
	if got := w.names("dead/"); !slices.Equal(got, []string{"again", "odd"}) {
		t.Errorf("%q are dead", got)
	}
	n, err = w.q.Discard(t.Context(), "odd", "again", "none")
	if n != 2 || !errors.Is(err, queue.ErrUnknownID) || len(w.names("dead/")) != 0 || w.get("ids/again") == "-" {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAllDeadLettersAreDealtWithInBatches(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	keys := map[string]string{}
	for n := range 300 {
		keys[fmt.Sprintf("dead/mail/%03d", n)] = adminLetter("")
		keys[fmt.Sprintf("dead/%013x-aaaaaaaa", n+1)] = adminLetter("")
	}
	w.many(keys)
	large := strings.Repeat("x", queue.MaxItem)
	w.put("dead/x1", "\n"+large)
	w.put("dead/x2", "\n"+large)
	written := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Skip: 1e6})
	if n, err := w.q.Redrive(t.Context()); n != 602 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	written.Remove()
	if jobs, ids := w.names("line/jobs/"), w.names("ids/"); len(jobs) != 602 || len(ids) != 302 || len(w.names("dead/")) != 0 {
		t.Errorf("%d jobs, %d markers", len(jobs), len(ids))
	}
	if n := calls.Count("Txn"); n > 30 {
		t.Errorf("%d transactions", n)
	}
	w.many(keys)
	if n, err := w.q.Discard(t.Context()); n != 600 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := w.q.Discard(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// Whatever answer is lost, each dead letter is in the line once, and counted once.
func TestALostAnswerRedrivesPurgesAndDiscardsOnce(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	for _, after := range []bool{false, true} {
		for _, skip := range []int{0, 1} {
			for name, do := range map[string]func(w *adminWorld) (int, error){
				"redrive": func(w *adminWorld) (int, error) { return w.q.Redrive(t.Context()) },
				"redrive named": func(w *adminWorld) (int, error) {
					return w.q.Redrive(t.Context(), w.names("dead/")...)
				},
				"discard": func(w *adminWorld) (int, error) { return w.q.Discard(t.Context()) },
				"purge":   func(w *adminWorld) (int, error) { return w.q.Purge(t.Context()) },
			} {
				w := adminQueue(t, client)
				keys := map[string]string{}
				for n := range 100 {
					keys[fmt.Sprintf("dead/mail/%03d", n)] = adminLetter("")
					path := "100/" + w.stem(time.Now())
					keys["line/jobs/"+path], keys[fmt.Sprintf("ids/job/%d", n)] = fmt.Sprintf(`{"id":"job/%d"}`, n)+"\n", path
				}
				w.many(keys)
				lost := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Skip: skip, After: after})
				n, err := do(w)
				if n != 100 || err != nil || lost.Hits() != 1 {
					t.Errorf("%s, after %t, skip %d: %d, %v (%d lost)", name, after, skip, n, err, lost.Hits())
				}
				jobs, dead, ids := len(w.names("line/jobs/")), len(w.names("dead/")), len(w.names("ids/"))
				want := map[string][3]int{"redrive": {200, 0, 200}, "redrive named": {200, 0, 200}, "discard": {100, 0, 100}, "purge": {0, 100, 0}}[name]
				if got := [3]int{jobs, dead, ids}; got != want {
					t.Errorf("%s, after %t, skip %d: %v, want %v", name, after, skip, got, want)
				}
			}
		}
	}
}

// Many redrive the same at once: each dead letter is put back once, and the counts add up.
func TestThoseWhoRedriveTheSameDoNotPutItBackTwice(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	keys := map[string]string{}
	for n := range 200 {
		keys[fmt.Sprintf("dead/%013x-aaaaaaaa", n+1)] = adminLetter("")
	}
	w.many(keys)
	var wg sync.WaitGroup
	counts := make([]int, 4)
	for i := range counts {
		wg.Go(func() {
			var err error
			if counts[i], err = w.on(w.cli).Redrive(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sum := counts[0] + counts[1] + counts[2] + counts[3]; sum != 200 || len(w.names("line/jobs/")) != 200 {
		t.Errorf("%v, %d jobs", counts, len(w.names("line/jobs/")))
	}
}

// Between the reading of a dead letter and its return to the line others redrive it and it dies again: then it is read anew.
func TestOneThatDiesAgainMeanwhileIsRedrivenAsItIsNow(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	w.put("dead/a", adminLetter(`,"id":"a"`))
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Hold: hold})
	go func() {
		defer close(hold)
		<-held.Hit()
		w.put("dead/a", `{"id":"a"}`+"\nanother")
	}()
	if n, err := w.q.Redrive(t.Context(), "a"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if all := adminMust(w.q.Peek(t.Context(), 0))(t); len(all) != 1 || all[0].Item != "another" {
		t.Errorf("%+v", all)
	}
}

func TestPurgeLeavesWhatIsInFlightAndWhatComesLater(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	now := time.Now()
	flying := w.job(0, now.Add(-time.Hour), `{"id":"flying"}`, "a")
	w.put("ids/flying", flying)
	w.claim(flying, "w")
	waiting := w.job(0, now.Add(-time.Hour), `{"id":"waiting"}`, "a")
	w.put("ids/waiting", waiting)
	w.put("seen/waiting", waiting)
	w.job(0, now.Add(-time.Hour), `{"id":"moved"}`, "a")
	w.put("ids/moved", "elsewhere") // of another job
	w.job(5, now.Add(time.Hour), "", "delayed")
	w.put("line/jobs/garbage", "")
	taken := w.job(-5, now.Add(-time.Hour), "", "a")
	w.put("dead/x", "\n")
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Hold: hold})
	later := ""
	go func() {
		defer close(hold)
		<-held.Hit()
		later = w.job(0, now, "", "later")
		w.claim(taken, "w")
	}()
	if n, err := w.q.Purge(t.Context()); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := w.names("line/jobs/"); !slices.Equal(got, []string{flying, later, taken}) {
		t.Errorf("%q are left", got)
	}
	if got := w.names("ids/"); !slices.Equal(got, []string{"flying", "moved"}) || w.get("seen/waiting") == "-" || w.get("dead/x") == "-" {
		t.Errorf("markers %q", got)
	}
}

func TestAPurgeThatIsInterruptedSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	calls, w := adminOwn(t)
	keys := map[string]string{}
	for range 1000 {
		keys["line/jobs/100/"+w.stem(time.Now())] = "\n"
	}
	w.many(keys)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	third := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Skip: 2, Silent: true})
	go func() { <-third.Hit(); cancel() }()
	n, err := w.q.Purge(ctx)
	if left := len(w.names("line/jobs/")); n < 17 || n > 128 || left != 1000-n || !errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), fmt.Sprintf("(%d jobs were deleted before)", n)) {
		t.Errorf("%d, %v, %d left", n, err, left)
	}
	// Nothing in the middle is in the way of another, even after a compaction.
	if _, err := w.cli.Compact(t.Context(), w.revision()); err != nil {
		t.Fatal(err)
	}
	if m, err := w.q.Purge(t.Context()); m != 1000-n || err != nil {
		t.Errorf("%d, %v", m, err)
	}
}

func (w *adminWorld) revision() int64 {
	w.t.Helper()
	resp, err := w.cli.Get(w.t.Context(), "x", clientv3.WithCountOnly())
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Header.Revision
}

// While it is purged, etcd is compacted, and more comes.
func TestACompactionDoesNotHavePurgeDeleteWhatCameLater(t *testing.T) {
	t.Parallel()
	calls, w := adminOwn(t)
	keys := map[string]string{}
	for range 500 {
		keys["line/jobs/100/"+w.stem(time.Now())] = "\n"
	}
	w.many(keys)
	hold := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, Hold: hold})
	go func() {
		defer close(hold)
		<-held.Hit()
		w.job(0, time.Now(), "", "later")
		if _, err := w.cli.Compact(t.Context(), w.revision()); err != nil {
			t.Error(err)
		}
	}()
	n, err := w.q.Purge(t.Context())
	if left := w.names("line/jobs/"); n != 500 || err != nil || len(left) != 1 {
		t.Errorf("%d, %v, %d left", n, err, len(left))
	}
}

func TestPauseAndResumeAreIdempotent(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	for _, after := range []bool{true, false} {
		calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, After: after})
		if err := w.q.Pause(t.Context(), "first"); err != nil {
			t.Fatal(err)
		}
		if err := w.q.Pause(t.Context(), "second"); err != nil {
			t.Fatal(err)
		}
		var p struct {
			Since  time.Time `json:"since"`
			Reason string    `json:"reason"`
		}
		if err := json.Unmarshal([]byte(w.get("line/paused")), &p); err != nil || p.Reason != "first" || time.Since(p.Since) > adminSoon {
			t.Errorf("%+v, %v", p, err)
		}
		calls.Inject(etcdtest.Fault{Call: "Txn", Match: adminWrites, After: after})
		for range 2 {
			if err := w.q.Resume(t.Context()); err != nil || w.get("line/paused") != "-" {
				t.Errorf("%v, %q", err, w.get("line/paused"))
			}
		}
	}
	w.put("line/paused", "by hand")
	if s := w.stats(); !s.Paused || s.PauseReason != "" {
		t.Errorf("%+v", s)
	}
	if err := w.q.Pause(t.Context(), strings.Repeat("x", queue.MaxReason+1)); err == nil || !strings.Contains(err.Error(), "at most 1024") {
		t.Error(err)
	}
	if err := w.q.Pause(t.Context(), "\xff"); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Error(err)
	}
}
