package pool

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// within puts a client into the namespace.
func (p *Pool) within(c *clientv3.Client) {
	if p.cfg.Namespace == "" {
		return
	}
	c.KV = namespace.NewKV(c.KV, p.cfg.Namespace)
	c.Watcher = &gate{Watcher: namespace.NewWatcher(c.Watcher, p.cfg.Namespace), inner: c.Watcher}
	c.Lease = namespace.NewLease(c.Lease, p.cfg.Namespace)
}

// gate is a watcher of etcd's namespace, which must not be closed while a watch is being opened.
type gate struct {
	clientv3.Watcher
	inner clientv3.Watcher

	opening sync.RWMutex // held for reading while one is; guards closed
	closed  bool
}

// Watch opens a watch; a closed channel once the gate is.
func (g *gate) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	g.opening.RLock()
	defer g.opening.RUnlock()
	if g.closed {
		none := make(chan clientv3.WatchResponse)
		close(none)
		return none
	}
	return g.Watcher.Watch(ctx, key, opts...)
}

// Close closes what is inside first: then those that are being opened end.
func (g *gate) Close() error {
	err := g.inner.Close()
	g.opening.Lock()
	g.closed = true
	g.opening.Unlock()
	_ = g.Watcher.Close() // it only says again what inner did
	return err
}
