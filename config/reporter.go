package config

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/latest"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// goodbyeWithin bounds the goodbye of an instance that ends.
	goodbyeWithin = time.Second

	// defaultTTL is the session's.
	defaultTTL = 10 * time.Second

	// settledAfter is how long things go well for the next trouble to be another one.
	settledAfter = 5 * time.Second
)

// reporter keeps what an instance says of its documents in etcd, for as long as the instance lives: under a lease of its own, so
// that it is gone when the instance is, and put back when that lease was lost.
type reporter struct {
	client *clientv3.Client
	key    string // of the report
	keeper *session.Keeper
	says   *latest.Cell[Report]
	ttl    int64
	log    *zap.Logger
	done   chan struct{} // closed when run has ended

	heard  func()        // called when the first report is in etcd
	tried  chan struct{} // closed when that is so, or has failed once
	failed error         // why it has; set before tried is closed

	seen int64 // ModRevision of the report as last put or read; owned by run, and by leave once that has ended
}

// newReporter checks the identity and returns a reporter that has said nothing yet.
func newReporter(client *clientv3.Client, key layout, who Identity, log *zap.Logger) (*reporter, error) {
	if err := names.Segment("Identity.ID", who.ID); err != nil {
		return nil, err
	}
	opts := &session.Options{TTL: who.TTL, Logger: log}
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("Identity: %w", err)
	}
	ttl := who.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	return &reporter{
		client: client,
		key:    key.report(who.ID),
		keeper: session.NewKeeper(client, opts),
		says:   latest.New(Report{State: Applied, Labels: who.Labels, Incarnation: rand.Text(), At: time.Now().UTC()}), // nothing, so far
		ttl:    int64((ttl + time.Second - 1) / time.Second),
		log:    log,
		done:   make(chan struct{}),
		tried:  make(chan struct{}),
	}, nil
}

// say has the report be a statement from now on. It does not wait.
func (r *reporter) say(stated statement) {
	said := r.says.Get()
	said.State, said.Revision, said.Rollout, said.Running = stated.state, stated.revision, stated.rollout, stated.running
	said.Reason = strings.ToValidUTF8(stated.reason[:min(len(stated.reason), maxReason)], "")
	said.At = time.Now().UTC()
	r.says.Set(said)
}

// run keeps the report in etcd until life ends.
func (r *reporter) run(life context.Context) {
	defer close(r.done)
	waits := retry.Policy{}.Backoff()
	for failing := false; life.Err() == nil; {
		since := time.Now()
		err := r.tell(life)
		if life.Err() != nil {
			return
		}
		r.first(err)
		if time.Since(since) > settledAfter {
			waits.Reset()
			failing = false
		}
		if !failing {
			r.log.Warn("config report interrupted", zap.Error(err))
			failing = true
		}
		select {
		case <-time.After(waits.Next()):
		case <-life.Done():
		}
	}
}

// tell puts each report under one session, until that is lost.
func (r *reporter) tell(life context.Context) error {
	sess, err := r.keeper.Live(life)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	stop := context.AfterFunc(sess.Context(), cancel)
	defer stop()
	for said := range r.says.Seq(ctx) {
		if err := r.put(ctx, sess, said); err != nil {
			if call.LeaseGone(err) {
				sess.Probe()
			}
			return err
		}
		r.first(nil)
	}
	return context.Cause(sess.Context())
}

// first notes what became of the first report, and when it is in etcd.
func (r *reporter) first(err error) {
	select {
	case <-r.tried:
	default:
		r.failed = err
		close(r.tried)
	}
	if err == nil && r.heard != nil {
		r.heard()
		r.heard = nil
	}
}

// put puts a report where the last one is. Conditioned on that, one whose answer was lost cannot come late, over a newer one.
func (r *reporter) put(ctx context.Context, sess *session.Session, said Report) error {
	said.TTL = r.ttl
	text, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	for {
		resp, err := call.Do(ctx, r.client, "report", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return r.client.KV.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(r.key), "=", r.seen)).
				Then(clientv3.OpPut(r.key, string(text), clientv3.WithLease(sess.Lease()))).
				Else(clientv3.OpGet(r.key)).
				Commit()
		})
		switch {
		case err != nil:
			return err
		case resp.Succeeded:
			r.seen = resp.Header.GetRevision()
			sess.Saw(r.seen)
			return nil
		}
		r.seen = 0
		for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
			r.seen = kv.ModRevision
			if string(kv.Value) == string(text) && clientv3.LeaseID(kv.Lease) == sess.Lease() {
				return nil // put before, by a request whose answer was lost
			}
		}
	}
}

// leave says goodbye, so that nobody takes the end of the instance for its death, and gives the lease back. It takes
// goodbyeWithin at the most. When ctx ends there is no goodbye, and a moment for the lease.
func (r *reporter) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeWithin)
	defer cancel()
	if r.seen > 0 {
		if sess, err := r.keeper.Live(ctx); err == nil {
			said := r.says.Get()
			said.State = Left
			if err := r.put(ctx, sess, said); err != nil {
				r.log.Warn("config goodbye not said", zap.Error(err))
			}
		}
	}
	if err := r.keeper.Close(ctx); err != nil {
		r.log.Warn("lease of the config report not given back: it expires", zap.Error(err))
	}
}
