package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ErrAcquireTimeout says that Do had no connection within Config.AcquireTimeout, and did not call its function.
var ErrAcquireTimeout = errors.New("pool: no connection for bulk traffic in time")

// Do calls fn with a client whose connections are apart from those of [Pool.Client], for traffic that would hold others up:
// reads of megabytes, exports, thousands of writes. Up to MaxConnections clients are opened as they are needed, and each is
// shared: Do takes the one with the fewest calls of fn, and opens another only if that one is not idle.
//
// fn's context ends with ctx, and with [ErrClosed] as its cause when its client is closed under it, as by [Pool.Close] once that
// has waited long enough; fn must return then, for Close does not abandon it. It must not keep the client.
//
// It returns fn's error, [ErrAcquireTimeout], [ErrClosed] or ctx's cause.
func (p *Pool) Do(ctx context.Context, fn func(ctx context.Context, client *clientv3.Client) error) error {
	c, err := p.bulk.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.client.Ctx(), func() { cancel(ErrClosed) })
	defer stop()
	return fn(ctx, c.client)
}

// bulk is the connections of Do.
type bulk struct {
	pool *Pool

	mu      sync.Mutex // guards what is below; health's is never taken under it, but the other way round
	open    []*conn
	opening int
	opened  chan struct{} // closed when one of those that are being opened is there, or failed; nil until somebody waits
	closed  bool
}

// acquire begins a call through the connection that is least busy.
func (b *bulk) acquire(ctx context.Context) (*conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	within := b.pool.cfg.AcquireTimeout
	waiting, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%w: not within %v", ErrAcquireTimeout, within))
	defer cancel()
	for {
		c, opened, err := b.take()
		switch {
		case c != nil || err != nil:
			return c, err
		case opened == nil:
			return b.add(ctx, waiting)
		}
		select {
		case <-opened:
		case <-waiting.Done():
			return nil, context.Cause(waiting)
		}
	}
}

// take begins a call, if there is a connection for it. Else the caller is to add one; or to wait until one was opened, when as
// many as there may be are being opened already.
func (b *bulk) take() (c *conn, opened <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, ErrClosed
	}
	b.drop(func(c *conn) bool { return !c.until.IsZero() && time.Now().After(c.until) })
	least, calls := b.least()
	full := len(b.open)+b.opening >= b.pool.cfg.MaxConnections
	switch {
	case least != nil && (calls == 0 || full) && least.acquire():
		return least, nil, nil
	case full:
		if b.opened == nil {
			b.opened = make(chan struct{})
		}
		return nil, b.opened, nil
	}
	b.opening++
	b.pool.work.Add(1) // Close waits for it
	return nil, nil, nil
}

// add opens a connection, as take had it, and begins a call through that.
func (b *bulk) add(ctx, waiting context.Context) (*conn, error) {
	defer b.pool.work.Done()
	c, err := b.another(waiting)
	got, closed := b.opens(c, ctx.Err() == nil)
	switch {
	case closed && c != nil:
		c.discard()
		return nil, ErrClosed
	case closed:
		return nil, ErrClosed
	case got == nil:
		return nil, err
	}
	b.pool.health.tell(got)
	return got, nil
}

// opens takes in how an opening ended, with c or with nil, and begins a call: through c; or, if there is none and somebody waits
// for it, through one that is busy, which is better than none.
func (b *bulk) opens(c *conn, wanted bool) (got *conn, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening--
	if b.opened != nil {
		close(b.opened)
		b.opened = nil
	}
	switch {
	case b.closed:
		return nil, true
	case c != nil:
		b.open = append(b.open, c)
	case wanted:
		c, _ = b.least()
	}
	if c != nil && c.acquire() {
		return c, false
	}
	return nil, false
}

// another opens a connection, and waits until it is there.
func (b *bulk) another(ctx context.Context) (*conn, error) {
	c, err := b.pool.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(b.pool.life, func() { cancel(ErrClosed) })
	defer stop()
	if err := c.ready(ctx); err != nil {
		c.discard()
		return nil, err
	}
	b.pool.within(c.client)
	return c, nil
}

// least is the connection with the fewest calls; nil if there is none. The caller holds mu.
func (b *bulk) least() (least *conn, calls int) {
	for _, c := range b.open {
		if n, _ := c.busy(); least == nil || n < calls {
			least, calls = c, n
		}
	}
	return least, calls
}

// drop closes the connections that match, when their calls have ended. The caller holds mu.
func (b *bulk) drop(match func(*conn) bool) {
	var keep []*conn
	for _, c := range b.open {
		if !match(c) {
			keep = append(keep, c)
			continue
		}
		c.retire()
		b.drain(c)
	}
	b.open = keep
}

// drain closes a retired connection when its calls have ended, however long fn takes.
func (b *bulk) drain(c *conn) {
	d := drained{c, bulkClass}
	b.pool.draining.Add(d)
	b.pool.work.Go(func() {
		defer b.pool.draining.Remove(d)
		if err := c.close(b.pool.patience); err != nil {
			b.pool.cfg.Logger.Warn("a connection of Do was not closed well", zap.Error(err))
		}
	})
}

// closeIdle closes those that nobody has used for IdleTimeout.
func (b *bulk) closeIdle() {
	if b.pool.cfg.IdleTimeout == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(func(c *conn) bool {
		calls, since := c.busy()
		return calls == 0 && time.Since(since) >= b.pool.cfg.IdleTimeout
	})
}

// closeAll has every connection replaced when it is needed next.
func (b *bulk) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(func(*conn) bool { return true })
}

// list is the connections that are open.
func (b *bulk) list() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*conn(nil), b.open...)
}

// shut lets no call begin any more, and returns the connections, retired.
func (b *bulk) shut() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	last := b.open
	b.open = nil
	for _, c := range last {
		c.retire()
	}
	return last
}
