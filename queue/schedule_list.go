package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// ErrScheduled refuses to delete a schedule that somebody drives. Nothing was changed.
var ErrScheduled = errors.New("queue: schedule in use")

// ScheduleInfo is a schedule as Schedules lists it.
type ScheduleInfo struct {
	Name    string
	Cron    string
	Zone    string
	Last    time.Time // the ticks up to this one are over
	Next    time.Time // the first after it; zero if there is none, or the zone or the expression is not known here
	Job     string    // ID of the last job that was pushed; "" for none
	Skipped int64     // ticks without a job, as that of a tick before was still in the queue
	Err     error     // why nothing else is set: the key in etcd is malformed
}

// Schedules lists the queue's schedules by name: those that are driven, and those that nobody drives any more. It is one read.
// ctx bounds it; it gives up by itself after 10 s.
func (q *Queue[T]) Schedules(ctx context.Context) ([]ScheduleInfo, error) {
	if q.invalid != nil {
		return nil, q.invalid
	}
	resp, err := call.Do(ctx, q.client, "list schedules", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return q.client.KV.Get(ctx, q.keys.schedules(), clientv3.WithPrefix())
	})
	if err != nil {
		return nil, fmt.Errorf("queue %q: %w", q.name, err)
	}
	infos := make([]ScheduleInfo, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		infos[i] = scheduleInfo(strings.TrimPrefix(string(kv.Key), q.keys.schedules()), kv)
	}
	return infos, nil
}

func scheduleInfo(name string, kv *mvccpb.KeyValue) ScheduleInfo {
	k, err := decodeProgress([]*mvccpb.KeyValue{kv})
	if err != nil {
		return ScheduleInfo{Name: name, Err: err}
	}
	info := ScheduleInfo{Name: name, Cron: k.Cron, Zone: k.Zone, Last: k.Tick, Job: k.Job, Skipped: k.Skipped}
	if zone, err := time.LoadLocation(k.Zone); err == nil {
		if t, err := parseTicks(k.Cron, zone); err == nil {
			info.Next = t.next(k.Tick)
		}
	}
	return info
}

// Unschedule deletes a schedule that nobody drives any more: how far it has come is forgotten, and a Schedule of that name starts
// as one that is new. Jobs that are in the queue stay. ctx bounds it; it gives up by itself after 10 s.
//
// Errors: [ErrScheduled] if somebody drives it or waits to, [ErrUnknownID] if there is no such schedule.
func (q *Queue[T]) Unschedule(ctx context.Context, name string) error {
	if q.invalid != nil {
		return q.invalid
	}
	if err := checkSchedule(name); err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	key, line := q.keys.schedule(name), q.keys.drivers(name)
	resp, err := call.Do(ctx, q.client, "delete a schedule", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return q.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(line), "=", 0).WithPrefix()).
			Then(clientv3.OpDelete(key)).
			Else(clientv3.OpGet(line, clientv3.WithPrefix(), clientv3.WithLimit(1),
				clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))).
			Commit()
	})
	switch {
	case err != nil:
	case !resp.Succeeded:
		err = ErrScheduled
		var d driver
		if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 && json.Unmarshal(kvs[0].Value, &d) == nil {
			err = fmt.Errorf("%w: by %v", err, d)
		}
	case resp.Responses[0].GetResponseDeleteRange().GetDeleted() == 0:
		err = ErrUnknownID
	}
	if err != nil {
		return fmt.Errorf("queue %q: schedule %q: %w", q.name, name, err)
	}
	return nil
}
