package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// pushText writes a string as it is, but for one that it cannot write.
type pushText struct{}

var errPushText = errors.New("no text")

func (pushText) Decode(data []byte) (string, error) { return string(data), nil }

func (pushText) Encode(v string) ([]byte, error) {
	if strings.HasPrefix(v, "secret") {
		return nil, errPushText
	}
	return []byte(v), nil
}

func TestBadPushesAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	var (
		calls  etcdtest.Calls
		cli    = etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
		text   = func() *queue.Options[string] { return &queue.Options[string]{Codec: pushText{}, MaxDepth: 10} }
		q      = queue.New(cli, "refused", text())
		inJSON = queue.New[string](cli, "refused", nil)
		large  = strings.Repeat("x", queue.MaxItem+1)
		far    = text()
	)
	far.MaxDepth = -1
	push := func(q *queue.Queue[string], item string, opts *queue.PushOptions) func() error {
		return func() error { _, err := q.Push(t.Context(), item, opts); return err }
	}
	many := func(opts *queue.PushOptions, items ...string) func() error {
		return func() error {
			ids, err := q.PushMany(t.Context(), items, opts)
			if len(ids) > 0 {
				t.Errorf("IDs %q", ids)
			}
			return err
		}
	}
	type job = queue.Job[string]
	named := func(item, id string) job { return job{Item: item, PushOptions: queue.PushOptions{ID: id}} }
	jobs := func(jobs ...job) func() error {
		return func() error { _, err := q.PushJobs(t.Context(), jobs); return err }
	}
	op := func(q *queue.Queue[string], item string, opts *queue.PushOptions) func() error {
		return func() error { _, _, err := q.PushOp(item, opts); return err }
	}
	for _, c := range []struct {
		name string
		err  error
		is   error
		says string
	}{
		{"empty name", push(queue.New[string](cli, "", nil), "x", nil)(), nil, "empty"},
		{"name", many(nil)(), nil, ""},
		{"bad name", op(queue.New[string](cli, "a//b", nil), "x", nil)(), nil, `"a//b" refused`},
		{"bad name of jobs", func() error { _, err := queue.New[string](cli, "a/", nil).PushJobs(t.Context(), nil); return err }(), nil, `ends in a slash`},
		{"depth", push(queue.New(cli, "refused", far), "x", nil)(), nil, "MaxDepth must not be negative"},
		{"delay", push(q, "x", &queue.PushOptions{Delay: -1})(), nil, `queue "refused": PushOptions.Delay must not be negative, but is -1ns`},
		{"far delay", push(q, "x", &queue.PushOptions{Delay: 1<<63 - 1})(), nil, "PushOptions.Delay must end before 2112"},
		{"century", push(q, "x", &queue.PushOptions{Delay: 100 * 365 * 24 * time.Hour})(), nil, "PushOptions.Delay must end before 2112"},
		{"priority", push(q, "x", &queue.PushOptions{Priority: 100})(), nil, "PushOptions.Priority must be from -99 to 99, but is 100"},
		{"low priority", push(q, "x", &queue.PushOptions{Priority: -100})(), nil, "but is -100"},
		{"ID", push(q, "x", &queue.PushOptions{ID: "a/"})(), nil, `queue "refused": PushOptions.ID name "a/" refused: it ends in a slash`},
		{"long ID", push(q, "x", &queue.PushOptions{ID: strings.Repeat("i", 257)})(), nil, "PushOptions.ID must have at most 256 bytes, but has 257"},
		{"key", push(q, "x", &queue.PushOptions{Key: "a\nb"})(), nil, "PushOptions.Key"},
		{"key that is no text", push(q, "x", &queue.PushOptions{Key: "\xff"})(), nil, "PushOptions.Key"},
		{"long key", push(q, "x", &queue.PushOptions{Key: strings.Repeat("k", 257)})(), nil, "PushOptions.Key must have at most 256 bytes"},
		{"codec", push(q, "secret", nil)(), errPushText, `queue "refused": encode the item: no text`},
		{"large", push(q, large, nil)(), queue.ErrTooLarge, fmt.Sprintf("%d bytes, at most %d", queue.MaxItem+1, queue.MaxItem)},
		{"large JSON", push(inJSON, large, nil)(), queue.ErrTooLarge, fmt.Sprintf("%d bytes", queue.MaxItem+3)},
		{"larger than the codec", push(inJSON, strings.Repeat("x", 2<<20), nil)(), queue.ErrTooLarge, "more than 1572864 bytes"},
		{"long queue", push(queue.New(cli, strings.Repeat("q", 8<<10), text()), large[1:], nil)(), queue.ErrTooLarge, "with the names"},
		{"the third", many(nil, "x", "x", "secret", "x")(), errPushText, `queue "refused": job 2: encode`},
		{"many of an ID", many(&queue.PushOptions{ID: "a"}, "x", "x")(), nil, "cannot be that of 2 jobs"},
		{"an ID twice", jobs(named("x", "a"), job{}, named("y", "a"))(), nil, `job 2: it has the ID "a" of job 0`},
		{"the second's delay", jobs(job{}, job{PushOptions: queue.PushOptions{Delay: -time.Second}})(), nil, "job 1: PushOptions.Delay"},
		{"the second's item", jobs(job{}, job{Item: "secret"})(), errPushText, "job 1: encode"},
		{"op's priority", op(q, "x", &queue.PushOptions{Priority: 1000})(), nil, "PushOptions.Priority"},
		{"op's item", op(q, large, nil)(), queue.ErrTooLarge, "at most"},
	} {
		if c.name == "name" { // no jobs: nothing to do
			if c.err != nil {
				t.Errorf("no items: %v", c.err)
			}
			continue
		}
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) || c.is != nil && !errors.Is(c.err, c.is) {
			t.Errorf("%s: %.300v, want %q", c.name, c.err, c.says)
			continue
		}
		var failed *queue.PushError
		if errors.As(c.err, &failed) || strings.Contains(c.err.Error(), "secret") || strings.Contains(c.err.Error(), "xxxx") {
			t.Errorf("%s: %.300v", c.name, c.err)
		}
	}
	if n := calls.Sent(); n != 0 {
		t.Errorf("calls: %v", calls.Counts())
	}
}

func TestAPushUnderAContextThatHasEndedWritesNothing(t *testing.T) {
	t.Parallel()
	q, calls, _ := pushQueue(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := q.Push(ctx, "x", nil)
	var failed *queue.PushError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || failed.Unknown != 0 || calls.Sent() != 0 {
		t.Errorf("%v, calls %v", err, calls.Counts())
	}
}
