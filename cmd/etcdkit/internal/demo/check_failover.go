package demo

import (
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// rule is who leads the etcd cluster, and in which term of raft.
type rule struct {
	member string
	term   uint64
}

// failover is the evidence that a lock was held across the death of etcd's leader.
type failover struct {
	before, after rule
	killed        time.Time
	elected       time.Time
	resumed       int64 // the revision at which the new leader took over
	token         int64 // of the lock, as etcd has it
	released      said  // what the holder said when it had been told to give the lock back
	reigns        []reign
	entries       []entry
}

// with adds what is known of the lock and of its holder.
func (f failover) with(e evidence, holder string) failover {
	f.reigns, f.entries = e.writes.reigns(orders.LockName), e.writes.entries()
	f.released, _ = e.heard(func(s said) bool { return s.id == holder && s.Kind == orders.Released })
	return f
}

// check holds if etcd did change its leader, and the lock was the same acquisition's from before until its holder gave it
// back: to etcd, whose key it is; in the book, where nobody else wrote meanwhile; and by the holder's word.
func (f failover) check() (string, error) {
	own := reignOf(f.reigns, f.token)
	switch {
	case f.after.member == f.before.member || f.after.term <= f.before.term:
		return broken("etcd has not changed its leader: %s in term %d, then %s in term %d",
			f.before.member, f.before.term, f.after.member, f.after.term)
	case own == nil || own.from >= f.resumed:
		return broken("token %d did not hold the lock before", f.token)
	case own.to != 0 && own.to <= f.resumed:
		return broken("the lock was lost at revision %d", own.to)
	case f.released.Reason != "":
		return broken("the holder lost it: %s", f.released.Reason)
	case f.released.Token != f.token:
		return broken("the holder has given back token %d, not %d", f.released.Token, f.token)
	}
	total, since := 0, 0
	for _, e := range f.entries {
		switch {
		case e.Token == f.token:
			total++
			if e.revision > f.resumed {
				since++
			}
		case e.revision > own.from && (own.to == 0 || e.revision < own.to):
			return broken("order %d was numbered under token %d, while %d held", e.Number, e.Token, f.token)
		}
	}
	switch {
	case since == 0:
		return broken("no work was done under it afterwards")
	case total != f.released.Orders:
		return broken("the holder speaks of %d orders, the book has %d", f.released.Orders, total)
	}
	return fmt.Sprintf("token %d kept; %s gap, then %d orders", f.token, screen.Duration(f.elected.Sub(f.killed)), since), nil
}
