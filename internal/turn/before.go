package turn

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// beforeMost is how long it may take to find out who was before.
const beforeMost = 2 * time.Second

// Before finds out who owned the line when the place came into it, beside the wait and without making that longer. found is
// called once, with the value of the owner's key, or with nil if etcd does not say: in a goroutine of the session's, or at once
// if the session has ended. Of those who share, the first in line is meant.
//
// It asks for the line as it was then. So the answer is right also if the owner has left meanwhile. ctx gives values only.
func (p *Place) Before(ctx context.Context, found func(value []byte)) {
	started := p.sess.Go(func(life context.Context) {
		both, cancel := join(context.WithoutCancel(ctx), life)
		defer cancel()
		found(p.before(both))
	})
	if !started {
		found(nil)
	}
}

// before is Before, in a goroutine of its own: it reads only what does not change about a place that has entered. It is one call
// without more ado: when etcd is away there are others who find out why.
func (p *Place) before(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, beforeMost)
	defer cancel()
	// A few, since the oldest keys may be those of lines further below.
	resp, err := p.sess.Client().KV.Get(ctx, p.prefix, byAge(clientv3.WithRev(p.token), clientv3.WithLimit(seen))...)
	if err != nil {
		return nil
	}
	line := inLine(p.prefix, resp.Kvs)
	if len(line) == 0 || string(line[0].Key) == p.key {
		return nil
	}
	return line[0].Value
}
