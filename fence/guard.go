package fence

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// ErrLost says that ownership ended before the caller was done with it. It is the cause of an owner's
// cancelled context, and what a fenced write returns that came too late; then nothing was written.
var ErrLost = errors.New("fence: ownership lost")

// errNoToken refuses what would otherwise be dangerous: etcd reads a create revision of 0 as "this key does
// not exist", so the guard of nobody would pass exactly when nobody owns.
var errNoToken = errors.New("fence: guard without a key or with a token below 1: only an acquired lock, term or claim has one")

// Token numbers owners: of two owners in one etcd cluster, the later one has the larger token. The zero Token
// belongs to nobody and is refused everywhere.
type Token int64

// Guard proves one acquisition: the key it stands on and the revision that created the key. It is plain
// data; copies are equal, and it may be logged, stored and sent. The zero Guard guards nothing and is
// refused.
type Guard struct {
	Key   string
	Token Token
}

// check returns an error for a guard that no acquisition made.
func (g Guard) check() error {
	if g.Token < 1 || g.Key == "" {
		return errNoToken
	}
	return nil
}

// Cmp is the condition "this acquisition still owns", for the If of the caller's own transaction. A
// transaction that did not succeed because of it wrote nothing of its Then branch. Cmp panics for a guard
// that no acquisition made, because such a condition would hold exactly while nobody owns.
func (g Guard) Cmp() clientv3.Cmp {
	if err := g.check(); err != nil {
		panic(err)
	}
	return clientv3.Compare(clientv3.CreateRevision(g.Key), "=", int64(g.Token))
}

// Commit applies ops in one transaction if, and only if, this acquisition still owns. ctx bounds the call; use
// the owner's own context, so that nothing is sent once trust has ended.
//
// It returns [ErrLost], and has written nothing, if ownership had ended, or if ctx had already ended for that reason. Any other
// error is etcd's or the client's: as with every write whose reply may be lost, the transaction may have been applied then
// (retry.Ambiguous tells). That ownership ended while the answer was waited for is such an error, and not ErrLost.
func (g Guard) Commit(ctx context.Context, kv clientv3.KV, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // nothing was sent: if that is because the owner was told of a loss, it is one
		return nil, fmt.Errorf("fence: commit under %q: %w", g.Key, cause.Of(ctx))
	}
	resp, err := kv.Txn(ctx).If(g.Cmp()).Then(ops...).Commit()
	if err != nil {
		// A client that repeats calls adds why ctx has ended. That it ended for a loss does not say that nothing was written, as
		// the refusal of another guard does, if kv has one.
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			err = cause.Without(err, ErrLost)
		}
		return nil, fmt.Errorf("fence: commit under %q: %w", g.Key, err)
	}
	if !resp.Succeeded {
		return resp, g.lost()
	}
	return resp, nil
}

// lost is ErrLost with the key and token that were checked.
func (g Guard) lost() error {
	return fmt.Errorf("%w: %q is no longer held with token %d", ErrLost, g.Key, g.Token)
}
