package registry

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// join takes a place on the next session.
func (a *announcer) join(ctx context.Context) error {
	p, err := a.sessions.next(ctx)
	if err != nil {
		return err
	}
	a.place = p
	a.leases = append(a.leases, int64(p.Lease()))
	if len(a.leases) > maxLeases {
		a.leases = a.leases[1:]
	}
	return nil
}

// forsake tells everybody who shares the session that etcd knows nothing of its lease.
func (a *announcer) forsake() {
	a.place.retire()
	a.place.Probe()
}

// rewrite is write for as long as the session and the registration last.
func (a *announcer) rewrite(value string) error {
	ctx, cancel := context.WithCancelCause(a.r.life)
	defer cancel(nil)
	shared := a.place.Context()
	stop := context.AfterFunc(shared, func() { cancel(context.Cause(shared)) })
	defer stop()
	return a.write(ctx, value, false)
}

// write makes value that of the key, under the current lease, or deletes it if the value is absent, whoever was there before;
// but unless takeOver is set it returns ErrReplaced if another live instance is.
//
// It writes only over what it has seen, so that its request may be repeated, and arrive late, without harm: what
// an attempt whose reply was lost has written is found by the next.
func (a *announcer) write(ctx context.Context, value string, takeOver bool) error {
	expected := a.at
	for range maxRounds {
		resp, err := a.exchange(ctx, value, expected)
		if err != nil {
			return err
		}
		a.known = resp.Header.GetRevision()
		a.place.Saw(a.known)
		if resp.Succeeded {
			a.wrote(value, a.known)
			return nil
		}
		kvs := resp.Responses[0].GetResponseRange().GetKvs()
		if len(kvs) == 0 {
			if value == absent { // the lease took it, or a request whose reply was lost
				a.wrote(value, a.known)
				return nil
			}
			expected, a.gone = 0, a.gone || a.at != 0
			continue
		}
		switch fateOf(kvs[0], value, a.leases) {
		case unchanged:
			a.wrote(value, kvs[0].ModRevision)
			return nil
		case taken:
			if !takeOver {
				return replacedBy(kvs[0])
			}
			a.log.Warn("taking over from another live instance, or from one before a restart")
		case disturbed:
			if a.heed(kvs[0]) { // which this would have written over
				value = a.r.wishes.newest().value
			}
		case unknown:
		}
		expected = kvs[0].ModRevision
	}
	return errContended
}

// exchange makes value that of the key if its revision is the expected one, 0 for no key, and else reads it.
func (a *announcer) exchange(ctx context.Context, value string, expected int64) (*clientv3.TxnResponse, error) {
	var ops []clientv3.Op
	switch {
	case value != absent:
		ops = []clientv3.Op{clientv3.OpPut(a.r.key, value, clientv3.WithLease(a.place.Lease()))}
	case expected != 0:
		ops = []clientv3.Op{clientv3.OpDelete(a.r.key)}
	}
	tries := 0
	write := call.Beside(a.client, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return a.client.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(a.r.key), "=", expected)).
			Then(ops...).
			Else(clientv3.OpGet(a.r.key)).
			Commit()
	})
	resp, err := call.Do(ctx, a.client, "write the instance", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		tries++
		return write(ctx)
	})
	if value != absent && expected == 0 && (tries > 1 || retry.Ambiguous(err)) {
		a.place.late = true
	}
	return resp, err
}

// wrote notes what the key is since a revision.
func (a *announcer) wrote(value string, revision int64) {
	if a.gone && value != absent {
		countReturn(a.r.service)
	}
	a.gone = false
	a.value = value
	switch {
	case value != absent:
		a.at, a.revision = revision, revision
	case a.at != 0:
		a.at, a.revision = 0, revision
	}
}
