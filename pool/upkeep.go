package pool

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// upkeep replaces connections whose certificates have changed, and closes those of Do that nobody uses.
func (p *Pool) upkeep() {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	version := 1 // of what the first connections were made with; the files may have changed since
	for {
		select {
		case <-p.life.Done():
			return
		case <-tick.C:
			p.bulk.closeIdle()
			p.replaceOld()
			if p.material == nil {
				continue
			}
			if now := p.material.refresh(); now != version && p.replaceAll() {
				version = now
			}
		}
	}
}

// replaceOld replaces the connections that are older than MaxLifetime allows. Those of Do are when they are asked for.
func (p *Pool) replaceOld() {
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		if c := cl.get(); c != nil && !c.until.IsZero() && time.Now().After(c.until) {
			p.replaceOne(cl)
		}
	}
}

// replaceAll replaces every connection, and reports whether it could.
func (p *Pool) replaceAll() bool {
	ok := true
	for _, cl := range [...]*class{&p.unary, &p.lease, &p.watch} {
		ok = p.replaceOne(cl) && ok
	}
	if ok {
		p.bulk.closeAll()
	}
	return ok
}

// replaceOne has a class go through a new connection, once that is there.
func (p *Pool) replaceOne(cl *class) bool {
	next, err := p.connect()
	if err != nil {
		p.cfg.Logger.Warn("a connection was not replaced", zap.Error(err))
		return false
	}
	ctx, cancel := context.WithTimeout(p.life, replaceWithin)
	defer cancel()
	if err := next.ready(ctx); err != nil {
		p.cfg.Logger.Warn("a connection was not replaced: the new one does not come about", zap.Error(err))
		next.discard()
		return false
	}
	p.drain(cl.replace(next), cl.name)
	p.health.tell(next) // one may have been left out meanwhile
	return true
}

// drain closes a retired connection when its calls have ended.
func (p *Pool) drain(c *conn, class string) {
	d := drained{c, class}
	p.draining.Add(d)
	p.work.Go(func() {
		defer p.draining.Remove(d)
		ctx, cancel := context.WithTimeout(p.patience, drainWithin)
		defer cancel()
		if err := c.close(ctx); err != nil {
			p.cfg.Logger.Warn("a replaced connection was not closed well", zap.Error(err))
		}
	})
}
