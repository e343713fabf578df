package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

func (l layout) schedules() string              { return string(l) + "schedules/" }
func (l layout) schedule(name string) string    { return l.schedules() + name }
func (l layout) driving(schedule string) string { return string(l) + "drivers/" + schedule + "/" } // name of the line
func (l layout) drivers(schedule string) string { return l.driving(schedule) + "/" }               // its prefix

// progress is how far a schedule has come, as its key holds it.
type progress struct {
	Tick    time.Time `json:"tick"` // all up to this one are over
	Cron    string    `json:"cron"`
	Zone    string    `json:"zone"`
	Job     string    `json:"job,omitempty"`     // ID of the last that was pushed
	Skipped int64     `json:"skipped,omitempty"` // ticks that had no job as the one before was in the queue
}

func (p progress) encode() string {
	b, _ := json.Marshal(p) // strings, a number and a time of this age cannot fail
	return string(b)
}

// known is a progress as etcd had it at a revision.
type known struct {
	progress
	revision int64 // ModRevision of the key; 0 if it is not there
}

var errProgress = errors.New("its key holds something else than a schedule's progress")

func decodeProgress(kvs []*mvccpb.KeyValue) (known, error) {
	if len(kvs) == 0 {
		return known{}, nil
	}
	k := known{revision: kvs[0].ModRevision}
	if err := json.Unmarshal(kvs[0].Value, &k.progress); err != nil || k.Tick.IsZero() {
		return known{}, fmt.Errorf("%q: %w", kvs[0].Key, errProgress)
	}
	k.Tick = k.Tick.UTC()
	return k, nil
}

// read returns the progress, linearizably.
func (s *schedule[T]) read(ctx context.Context) (known, error) {
	resp, err := call.Do(ctx, s.q.client, "read a schedule", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.q.client.KV.Get(ctx, s.q.keys.schedule(s.name))
	})
	if err != nil {
		return known{}, err
	}
	return decodeProgress(resp.Kvs)
}

// advance replaces the progress that is known by another, and pushes a job with it, if there is one and no job before it is in
// its way. It returns the progress as it is then: by whomever, if the known one was replaced meanwhile. A request whose answer was
// lost may be sent again: it takes effect once, as it replaces what it compares; and what it has written is read.
func (s *schedule[T]) advance(ctx context.Context, from known, to progress, j *tickJob) (known, error) {
	key := s.q.keys.schedule(s.name)
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", from.revision)}
	then, skipped := clientv3.OpPut(key, to.encode()), to
	if j != nil {
		skipped.Job = from.Job
		skipped.Skipped++
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(j.key), "=", 0)) // the clock was put back to another's place
		then = clientv3.OpTxn(j.free, append(j.ops, then), []clientv3.Op{clientv3.OpPut(key, skipped.encode())})
	}
	resp, err := call.Do(ctx, s.q.client, "advance a schedule", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.q.client.KV.Txn(ctx).If(cmps...).Then(then).Else(clientv3.OpGet(key)).Commit()
	})
	switch {
	case err != nil:
		return known{}, err
	case !resp.Succeeded:
		return decodeProgress(resp.Responses[0].GetResponseRange().GetKvs())
	case j != nil && !resp.Responses[0].GetResponseTxn().GetSucceeded():
		to = skipped
	case j != nil:
		s.q.measures.pushed(ctx, 1)
	}
	return known{to, resp.Header.GetRevision()}, nil
}
