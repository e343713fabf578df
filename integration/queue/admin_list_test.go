package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/queue"
)

// adminMust returns a value, and fails the test if there is an error.
func adminMust[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPeekShowsTheLineAsItIs(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	now := time.Now()
	w.job(0, now.Add(-time.Hour), `{"id":"mail/1","key":"k","n":2,"err":"no\nroute","at":"2026-01-02T03:04:05Z"}`, "text")
	w.claim(w.job(0, now.Add(-time.Minute), "", "in flight"), "w1")
	w.job(0, now.Add(time.Hour), "", "delayed")
	w.job(3, now.Add(-time.Second), "", "first")
	w.job(0, now.Add(-time.Hour), "", "\xff")
	w.job(0, now.Add(-time.Hour), "{", "no header")
	w.put("line/jobs/100/zzz", "no place")
	w.put("line/jobs/200/0000000000000-a", "no priority")
	all := adminMust(w.q.Peek(t.Context(), 0))(t)
	if len(all) != 8 {
		t.Fatalf("%+v", all)
	}
	if i := all[0]; i.Item != "first" || i.Priority != 3 || i.Err != nil || i.Pushed.Sub(now).Abs() > 2*time.Second || !strings.HasSuffix(i.ID, "-00000004") {
		t.Errorf("%+v", i)
	}
	i := all[1]
	if i.ID != "mail/1" || i.Item != "text" || string(i.Raw) != "text" || i.Key != "k" || i.Attempts != 2 || i.LastErr != "no\nroute" || i.Worker != "" ||
		!i.Pushed.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || !i.Due.IsZero() {
		t.Errorf("%+v", i)
	}
	if i := all[2]; i.Err == nil || string(i.Raw) != "\xff" || i.Item != "" || strings.Contains(i.Err.Error(), "\xff") {
		t.Errorf("%+v", i)
	}
	if i := all[3]; i.Err == nil || string(i.Raw) != "{\nno header" || !strings.Contains(i.Err.Error(), "not a job") {
		t.Errorf("%+v", i)
	}
	if i := all[4]; i.Worker != "w1" || i.Item != "in flight" {
		t.Errorf("%+v", i)
	}
	if i := all[5]; i.Item != "delayed" || i.Due.Sub(now).Round(time.Minute) != time.Hour {
		t.Errorf("%+v", i)
	}
	for _, i := range all[6:] {
		if i.Err == nil || !strings.Contains(i.Err.Error(), "not a place in line") || string(i.Raw) != strings.TrimPrefix(string(i.Raw), "\n") {
			t.Errorf("%+v", i)
		}
	}
	if two := adminMust(w.q.Peek(t.Context(), 2))(t); len(two) != 2 || two[1].ID != "mail/1" {
		t.Errorf("%+v", two)
	}
	if _, err := w.q.Peek(t.Context(), -1); err == nil || !strings.Contains(err.Error(), "n must not be negative, but is -1") {
		t.Error(err)
	}
}

// Pages follow the size of what they hold, and the claims beside them.
func TestPeekReadsManyAndLargeItemsInPages(t *testing.T) {
	t.Parallel()
	calls, client := adminCalls(t)
	w := adminQueue(t, client)
	keys, at := map[string]string{}, time.Now().Add(-time.Hour)
	for n := range 1000 {
		path := "100/" + w.stem(at)
		keys["line/jobs/"+path] = fmt.Sprintf("\n%d", n)
		if n%3 == 0 {
			keys["line/claims/"+path] = fmt.Sprint("w", n)
		}
	}
	w.many(keys)
	large := strings.Repeat("x", 1<<20)
	for range 10 {
		w.job(-1, at, "", large)
	}
	all := adminMust(w.q.Peek(t.Context(), 0))(t)
	if len(all) != 1010 {
		t.Fatalf("%d jobs", len(all))
	}
	for n, i := range all[:1000] {
		if i.Item != fmt.Sprint(n) || (i.Worker == fmt.Sprint("w", n)) != (n%3 == 0) {
			t.Fatalf("%d: %+v", n, i)
		}
	}
	if n := calls.Count("Txn"); n < 4 || n > 20 {
		t.Errorf("%d reads", n)
	}
}

func TestDeadLettersAreShownWhateverTheyHold(t *testing.T) {
	t.Parallel()
	w := adminQueue(t, nil)
	w.put("dead/0000000000001-a", `{"n":3,"err":"boom","place":"090/0000000000001-a","died":"2026-01-02T03:04:05Z"}`+"\nitem")
	w.put("dead/mail/7", `{"id":"mail/7","place":"nowhere"}`+"\n\xff")
	w.put("dead/x", "garbage")
	all := adminMust(w.q.Dead(t.Context(), 0))(t)
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	if i := all[0]; i.ID != "0000000000001-a" || i.Priority != 10 || i.Attempts != 3 || i.LastErr != "boom" || i.Item != "item" || i.Err != nil ||
		!i.Died.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || !i.Pushed.Equal(time.UnixMicro(1)) {
		t.Errorf("%+v", i)
	}
	if i := all[1]; i.ID != "mail/7" || i.Err == nil || string(i.Raw) != "\xff" || !i.Pushed.IsZero() {
		t.Errorf("%+v", i)
	}
	if i := all[2]; i.ID != "x" || i.Err == nil || !bytes.Equal(i.Raw, []byte("garbage")) {
		t.Errorf("%+v", i)
	}
	if one := adminMust(w.q.Dead(t.Context(), 1))(t); len(one) != 1 {
		t.Errorf("%+v", one)
	}
}

func TestWithoutEtcdEveryErrorNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	q := queue.New[string](adminGone(t), "mail", nil)
	for name, do := range adminMethods(q) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := do(t.Context())
			if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1: ") || !strings.HasPrefix(err.Error(), `queue "mail": `) || strings.Contains(err.Error(), "\n") {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := do(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	if _, err := queue.Queues(t.Context(), adminGone(t)); err == nil || !strings.Contains(err.Error(), "queue: names: read: etcd is unreachable: 127.0.0.1:1") {
		t.Error(err)
	}
}

func TestABadNameIsRefusedByEveryMethod(t *testing.T) {
	t.Parallel()
	for name, do := range adminMethods(queue.New[string](adminGone(t), "a//b", nil)) {
		if err := do(t.Context()); err == nil || !strings.Contains(err.Error(), `queue name "a//b" refused`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// adminMethods are the methods of this side.
func adminMethods(q *queue.Queue[string]) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Stats":       func(ctx context.Context) error { _, err := q.Stats(ctx); return err },
		"Peek":        func(ctx context.Context) error { _, err := q.Peek(ctx, 1); return err },
		"Dead":        func(ctx context.Context) error { _, err := q.Dead(ctx, 1); return err },
		"Redrive":     func(ctx context.Context) error { _, err := q.Redrive(ctx, "a"); return err },
		"Redrive all": func(ctx context.Context) error { _, err := q.Redrive(ctx); return err },
		"Discard":     func(ctx context.Context) error { _, err := q.Discard(ctx, "a"); return err },
		"Purge":       func(ctx context.Context) error { _, err := q.Purge(ctx); return err },
		"Pause":       func(ctx context.Context) error { return q.Pause(ctx, "") },
		"Resume":      q.Resume,
	}
}
