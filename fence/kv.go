package fence

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// KV wraps kv so that every Put, Delete and Txn happens only while this acquisition still owns; one that comes
// too late returns [ErrLost] and writes nothing. Reads and Compact pass through unguarded. A guarded Txn
// keeps its own conditions: Succeeded and the branch taken are those of the caller's If. For code that
// takes a clientv3.KV and cannot be changed; [Guard.Commit] says the same thing more plainly.
//
// The returned KV is safe for concurrent use. A guard that no acquisition made is refused by every write.
func (g Guard) KV(kv clientv3.KV) clientv3.KV {
	return &guardedKV{KV: kv, guard: g}
}

type guardedKV struct {
	clientv3.KV
	guard Guard
}

// Put is clientv3.KV's Put, under the guard.
func (k *guardedKV) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	resp, err := k.Do(ctx, clientv3.OpPut(key, val, opts...))
	return resp.Put(), err
}

// Delete is clientv3.KV's Delete, under the guard.
func (k *guardedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	resp, err := k.Do(ctx, clientv3.OpDelete(key, opts...))
	return resp.Del(), err
}

// Txn is clientv3.KV's Txn, under the guard.
func (k *guardedKV) Txn(ctx context.Context) clientv3.Txn {
	return &guardedTxn{kv: k, ctx: ctx}
}

// Do is clientv3.KV's Do; anything but a read goes under the guard.
func (k *guardedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if op.IsGet() {
		return k.KV.Do(ctx, op)
	}
	resp, err := k.guard.Commit(ctx, k.KV, op)
	if err != nil {
		return clientv3.OpResponse{}, err
	}
	inner := resp.Responses[0]
	switch {
	case op.IsPut():
		put := (*clientv3.PutResponse)(inner.GetResponsePut())
		put.Header = resp.Header
		return put.OpResponse(), nil
	case op.IsDelete():
		del := (*clientv3.DeleteResponse)(inner.GetResponseDeleteRange())
		del.Header = resp.Header
		return del.OpResponse(), nil
	case op.IsTxn():
		txn := (*clientv3.TxnResponse)(inner.GetResponseTxn())
		txn.Header = resp.Header
		return txn.OpResponse(), nil
	}
	return clientv3.OpResponse{}, fmt.Errorf("fence: operation of an unknown kind under %q", k.guard.Key)
}

// guardedTxn collects a transaction and commits it as the only operation of a guarded one. Nesting keeps the
// two questions apart: a false guard is ErrLost, a false condition of the caller's takes the caller's Else.
type guardedTxn struct {
	kv   *guardedKV
	ctx  context.Context //nolint:containedctx // clientv3.Txn is bound to its context when it is made
	cmps []clientv3.Cmp
	then []clientv3.Op
	els  []clientv3.Op
}

// If adds conditions, as clientv3.Txn does.
func (t *guardedTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.cmps = append(t.cmps, cs...)
	return t
}

// Then adds operations for when the conditions hold.
func (t *guardedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then = append(t.then, ops...)
	return t
}

// Else adds operations for when they do not.
func (t *guardedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.els = append(t.els, ops...)
	return t
}

// Commit sends the transaction under the guard.
func (t *guardedTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.kv.Do(t.ctx, clientv3.OpTxn(t.cmps, t.then, t.els))
	return resp.Txn(), err
}
