package config_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
)

// plan is a rollout's record as other programs read it, by docs/keys.md.
type plan struct {
	ID        string              `json:"id"`
	State     config.RolloutState `json:"state"`
	Steps     []config.Step       `json:"steps"`
	Step      int                 `json:"step"`
	Cause     string              `json:"cause"`
	Base      int64               `json:"base"`
	Threshold uint64              `json:"threshold"`
	Applied   map[string]string   `json:"applied"`
	Seen      int64               `json:"seen"`
}

// includes is what docs/keys.md says of who runs the value.
func (p *plan) includes(key, id string, labels map[string]string) bool {
	if p.State == config.Promoted || p.State == config.Aborted {
		return false
	}
	for _, s := range p.Steps[:p.Step+1] {
		if len(s.Labels) > 0 {
			all := true
			for k, v := range s.Labels {
				all = all && labels[k] == v
			}
			if all {
				return true
			}
		}
		if s.Percent > 0 && p.Threshold > 0 && hash(key, id) <= p.Threshold {
			return true
		}
	}
	return false
}

func hash(key, id string) uint64 {
	sum := sha256.Sum256([]byte(key + "\x00" + id))
	return max(1, binary.BigEndian.Uint64(sum[:8]))
}

// instance does what a Value with an Identity does, by hand: it reports under a lease what it runs. The lease is a long one, and dies by
// being revoked.
type instance struct {
	t      testing.TB
	cli    *clientv3.Client
	key    string
	id     string
	labels map[string]string
	ttl    int64

	stop context.CancelFunc
	done chan struct{}

	mu          sync.Mutex                          // guards what follows
	apply       func() (config.ReportState, string) // what becomes of a rollout's value; an empty state is nothing
	incarnation string
	lease       clientv3.LeaseID
	rollout     string // whose value it was given last
	revision    int64  // of the document that it was given last
	over        bool   // it has died, or left
	silent      bool   // it hears of nothing new
}

// join starts an instance that applies whatever it is given.
func join(t testing.TB, cli *clientv3.Client, key, id string, more ...func(*instance)) *instance {
	t.Helper()
	i := &instance{
		t: t, cli: cli, key: key, id: id, done: make(chan struct{}),
		apply: func() (config.ReportState, string) { return config.Applied, "" },
	}
	for _, f := range more {
		f(i)
	}
	i.start()
	ctx, cancel := context.WithCancel(context.Background())
	i.stop = cancel
	ready := make(chan struct{})
	go i.run(ctx, ready)
	t.Cleanup(func() { cancel(); <-i.done })
	select {
	case <-ready:
	case <-time.After(soon):
		t.Fatalf("instance %q does not report", id)
	}
	return i
}

func labelled(labels map[string]string) func(*instance) {
	return func(i *instance) { i.labels = labels }
}

func applying(state config.ReportState, reason string) func(*instance) {
	return func(i *instance) { i.apply = func() (config.ReportState, string) { return state, reason } }
}

// start is the beginning of a process.
func (i *instance) start() {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	lease, err := i.cli.Grant(ctx, 600)
	if err != nil {
		i.t.Error(err)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.incarnation, i.lease, i.over = rand.Text(), lease.ID, false
	i.rollout, i.revision = "", 0
}

// run follows the key and its rollout, and reports.
func (i *instance) run(ctx context.Context, ready chan struct{}) {
	defer close(i.done)
	prefix := beside(i.key) + "rollout/"
	for first := true; ctx.Err() == nil; {
		// The watches come first, from now on; what they bring is only the reason to read.
		wctx, cancel := context.WithCancel(ctx)
		a := i.cli.Watch(wctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		b := i.cli.Watch(wctx, i.key, clientv3.WithCreatedNotify())
		for open := true; open; {
			if i.look(ctx) == nil && first {
				first = false
				close(ready)
			}
			var resp clientv3.WatchResponse
			select {
			case resp, open = <-a:
			case resp, open = <-b:
			}
			open = open && resp.Err() == nil
		}
		cancel()
	}
}

// look reads what is to be run, and reports.
func (i *instance) look(ctx context.Context) error {
	resp, err := i.cli.Txn(ctx).Then(
		clientv3.OpGet(i.key), clientv3.OpGet(beside(i.key)+"rollout/plan"), clientv3.OpGet(beside(i.key)+"rollout/value"),
	).Commit()
	if err != nil {
		return err
	}
	at := func(n int) (value []byte, revision int64) {
		for _, kv := range resp.Responses[n].GetResponseRange().Kvs {
			value, revision = kv.Value, kv.ModRevision
		}
		return value, revision
	}
	_, base := at(0)
	revision := base
	var p plan
	if text, planned := at(1); planned > 0 {
		if err := json.Unmarshal(text, &p); err != nil {
			return err
		}
	}
	_, candidate := at(2)
	rollout, state, reason, given := "", config.Applied, "", false
	if p.ID != "" && candidate > 0 && p.includes(i.key, i.id, i.labels) {
		rollout, revision = p.ID, candidate
		given = true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if given {
		state, reason = i.apply()
	}
	if state == "" { // as if it had not heard of the rollout
		rollout, revision, state = "", base, config.Applied
	}
	if i.over || i.silent || i.rollout == rollout && i.revision == revision && i.revision > 0 {
		return nil
	}
	i.rollout, i.revision = rollout, revision
	return i.sayLocked(ctx, state, reason)
}

// sayLocked puts a report; the caller holds mu.
func (i *instance) sayLocked(ctx context.Context, state config.ReportState, reason string) error {
	text, err := json.Marshal(config.Report{
		Labels: i.labels, Incarnation: i.incarnation, State: state, Revision: i.revision, Rollout: i.rollout, Reason: reason,
		Running: i.revision, TTL: i.ttl, At: time.Now(),
	})
	if err != nil {
		return err
	}
	_, err = i.cli.Put(ctx, beside(i.key)+"report/"+i.id, string(text), clientv3.WithLease(i.lease))
	return err
}

// say reports something by itself.
func (i *instance) say(state config.ReportState, reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := i.sayLocked(ctx, state, reason); err != nil {
		i.t.Error(err)
	}
}

// becomes has the instance make this of rollouts' values from now on.
func (i *instance) becomes(state config.ReportState) {
	i.mu.Lock()
	applying(state, "")(i)
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := i.look(ctx); err != nil {
		i.t.Error(err)
	}
}

// deaf has the instance hear of nothing new, or hear again.
func (i *instance) deaf(deaf bool) {
	i.mu.Lock()
	i.silent = deaf
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := i.look(ctx); err != nil {
		i.t.Error(err)
	}
}

// die ends the process: its lease goes, and with it what it said.
func (i *instance) die() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if _, err := i.cli.Revoke(ctx, i.lease); err != nil {
		i.t.Error(err)
	}
}

// leave ends the process in order.
func (i *instance) leave() {
	i.say(config.Left, "")
	i.die()
}

// again starts the process anew, over what it left in etcd, if that is there.
func (i *instance) again() {
	i.start()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := i.look(ctx); err != nil {
		i.t.Error(err)
	}
}

// driven is a Drive that runs.
type driven struct {
	stop  context.CancelFunc
	done  chan struct{}
	state config.RolloutState // once done is closed
	err   error
}

// drive drives a rollout until the test ends.
func drive(t testing.TB, r *config.Rollout) *driven {
	ctx, cancel := context.WithCancel(context.Background())
	d := &driven{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.state, d.err = r.Drive(ctx)
	}()
	t.Cleanup(func() { cancel(); <-d.done })
	return d
}

// wait waits for the end of the rollout.
func (d *driven) wait(t testing.TB) (config.RolloutState, error) {
	t.Helper()
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		t.Fatal("the rollout does not end")
	}
	return d.state, d.err
}

// promoted fails the test unless the rollout is promoted.
func (d *driven) promoted(t testing.TB) {
	t.Helper()
	if state, err := d.wait(t); state != config.Promoted || err != nil {
		t.Fatalf("the rollout ended %q: %v", state, err)
	}
}

// aborted fails the test unless the rollout is taken back for a reason that says so.
func (d *driven) aborted(t testing.TB, says string) {
	t.Helper()
	state, err := d.wait(t)
	if state != config.Aborted || !errors.Is(err, config.ErrAborted) || !strings.Contains(err.Error(), says) {
		t.Fatalf("the rollout ended %q: %v; want it taken back: %s", state, err, says)
	}
}

// standing is where a rollout stands in etcd, and at which revision it was written.
func standing(t testing.TB, cli *clientv3.Client, key string) (p plan, revision int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	resp, err := cli.Get(ctx, beside(key)+"rollout/plan")
	if err != nil || len(resp.Kvs) == 0 {
		t.Fatal("no plan: ", err)
	}
	if err := json.Unmarshal(resp.Kvs[0].Value, &p); err != nil {
		t.Fatal(err)
	}
	return p, resp.Kvs[0].ModRevision
}

// shows waits until the progress of a rollout is as it should be, and returns it.
func shows(t testing.TB, r *config.Rollout, what string, holds func(config.Progress) bool) config.Progress {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*soon)
	defer cancel()
	var last config.Progress
	for last = range r.Changes(ctx) {
		if holds(last) {
			return last
		}
	}
	t.Fatalf("%s: not so; the last progress is %+v", what, last)
	return last
}
