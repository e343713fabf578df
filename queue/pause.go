package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// MaxReason is how many bytes the reason of a pause may have.
const MaxReason = 1 << 10

// pause is what the key of a paused queue holds.
type pause struct {
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Pause stops the handing out of jobs, for everybody, until Resume: once it has returned, no job is claimed. What is in flight is finished, and
// pushes go on. A queue that is paused stays so as it is, with the reason of who came first.
func (q *Queue[T]) Pause(ctx context.Context, reason string) error {
	switch {
	case q.invalid != nil:
		return q.invalid
	case len(reason) > MaxReason:
		return fmt.Errorf("queue %q: pause: the reason has %d bytes, at most %d", q.name, len(reason), MaxReason)
	case !utf8.ValidString(reason):
		return fmt.Errorf("queue %q: pause: the reason is not UTF-8", q.name)
	}
	defer q.counted.forget()
	key := q.keys.paused()
	value, err := json.Marshal(pause{Since: time.Now().UTC().Truncate(time.Millisecond), Reason: reason})
	if err != nil {
		return fmt.Errorf("queue %q: pause: %w", q.name, err)
	}
	_, err = call.Do(ctx, q.client, "pause", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return q.client.KV.Txn(ctx).If(absent(key)).Then(clientv3.OpPut(key, string(value))).Commit()
	})
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	return nil
}

// Resume ends a pause. It is no error if there is none.
func (q *Queue[T]) Resume(ctx context.Context) error {
	if q.invalid != nil {
		return q.invalid
	}
	defer q.counted.forget()
	key := q.keys.paused()
	found, err := call.Do(ctx, q.client, "resume", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return q.client.KV.Get(ctx, key, clientv3.WithKeysOnly())
	})
	if err == nil && len(found.Kvs) > 0 {
		// It is this pause that ends: a copy of the request that is late does not end the next.
		of := clientv3.Compare(clientv3.CreateRevision(key), "=", found.Kvs[0].CreateRevision)
		_, err = call.Do(ctx, q.client, "resume", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return q.client.KV.Txn(ctx).If(of).Then(clientv3.OpDelete(key)).Commit()
		})
	}
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	return nil
}

// readPause notes what the key of a pause holds. Whatever that is, the queue is paused.
func (s *Stats) readPause(value []byte) {
	var p pause
	_ = json.Unmarshal(value, &p)
	s.Paused, s.PausedSince, s.PauseReason = true, p.Since, p.Reason
}
