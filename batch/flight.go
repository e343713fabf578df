package batch

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
)

// fly takes one transaction through, and makes its place in flight free.
func (w *Writer) fly(cargo []*write) {
	w.carry(cargo)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flying--
	w.launch()
}

// carry sends writes as one transaction and gives them their fate; or, if one of them may be the reason why all were
// refused, sends them in parts. Each part lands by itself.
func (w *Writer) carry(cargo []*write) {
	revision, err := w.commit(cargo)
	if parts := divide(cargo, err); parts != nil {
		for _, part := range parts {
			w.carry(part)
		}
		return
	}
	w.settle(cargo, fateOf(revision, err))
}

// commit sends one transaction, again and again while that is safe.
func (w *Writer) commit(cargo []*write) (revision int64, err error) {
	ops := make([]clientv3.Op, len(cargo))
	for i, c := range cargo {
		if c.deletes {
			ops[i] = clientv3.OpDelete(c.key)
		} else {
			ops[i] = clientv3.OpPut(c.key, c.value, w.puts...)
		}
	}
	return retry.Value(w.life, w.opts.Retry, func(ctx context.Context) (int64, error) {
		resp, err := w.kv.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	})
}

// settle gives all of a transaction, or of a part of one, its fate.
func (w *Writer) settle(cargo []*write, f fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, c := range cargo {
		w.buffer.land(c, f, now)
	}
	w.record(cargo)
}

// fateOf says what the end of a transaction means for its writes.
func fateOf(revision int64, err error) fate {
	switch {
	case err == nil:
		return fate{revision: revision}
	case retry.Ambiguous(err):
		return fate{verdict: ErrUnknown, reason: err}
	case errors.Is(err, fence.ErrLost):
		return fate{verdict: ErrNotApplied, reason: err} // a guard refused it, and then nothing is written
	case unheardOf(err):
		return fate{verdict: ErrUnknown, reason: err}
	}
	return fate{verdict: ErrNotApplied, reason: err}
}

// unheardOf reports whether package retry's table has nothing on an error. It takes such an error for a permanent one, which
// is right for whoever asks if to try again. Here it would be the claim that nothing was written, on the word of a
// wrapper that nobody knows. What the table does not know adds nothing to the class of an error that it is joined
// with; all else keeps a transient one from being transient.
func unheardOf(err error) bool {
	return !retry.Transient(err) && retry.Transient(errors.Join(err, rpctypes.ErrNoLeader))
}

// divide returns the parts in which to send writes again that were refused together, or nil if the refusal is their
// fate. Only what etcd has certainly not applied is sent again, and only for a reason that lies in single
// operations: if the cluster is another one, it is for every one of them.
func divide(cargo []*write, err error) [][]*write {
	if err == nil || len(cargo) < 2 || retry.Transient(err) || retry.Ambiguous(err) {
		return nil
	}
	switch code, etcd := status.Code(err), retry.EtcdError(err); {
	case errors.Is(etcd, rpctypes.ErrLeaseNotFound):
		// All puts are bound to the one lease. Deletes are not.
		return byKind(cargo)
	case
		errors.Is(etcd, rpctypes.ErrPermissionDenied),
		errors.Is(etcd, rpctypes.ErrRequestTooLarge), // a namespace has made the keys longer, or the server's limit is lower
		errors.Is(etcd, rpctypes.ErrTooManyOps),      // the server's limit is lower, or a guard is one of them
		code == codes.PermissionDenied,               // a proxy's
		code == codes.ResourceExhausted:              // the client's own limit; what is transient or ambiguous is out already
		return halves(cargo)
	}
	return nil
}

// halves finds one guilty operation among n in 2 log n more transactions, and n in 2n.
func halves(cargo []*write) [][]*write {
	half := len(cargo) / 2
	return [][]*write{cargo[:half], cargo[half:]}
}

// byKind parts puts from deletes. It returns nil if all are of one kind.
func byKind(cargo []*write) [][]*write {
	var puts, deletes []*write
	for _, c := range cargo {
		if c.deletes {
			deletes = append(deletes, c)
		} else {
			puts = append(puts, c)
		}
	}
	if len(puts) == 0 || len(deletes) == 0 {
		return nil
	}
	return [][]*write{puts, deletes}
}
