package demo

import (
	"fmt"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// fencing is the evidence that a holder which was frozen past its TTL has written nothing.
type fencing struct {
	token   int64 // of the frozen holder
	number  int   // of the order that it was about to write
	thawed  time.Time
	late    said // what became of that write
	reigns  []reign
	entries []entry
}

// with adds what is known of the lock and of the write.
func (f fencing) with(e evidence, frozen string) fencing {
	f.reigns, f.entries = e.writes.reigns(orders.LockName), e.writes.entries()
	f.late, _ = e.heard(func(s said) bool { return s.id == frozen && s.Kind == orders.Late })
	return f
}

// check holds if etcd gave the lock to another, with a larger token, while the holder was frozen; the number went to
// that one; and the frozen one's write, which it did send when it woke, was refused and left no trace.
func (f fencing) check() (string, error) {
	own, next := reignOf(f.reigns, f.token), after(f.reigns, f.token)
	switch {
	case own == nil:
		return broken("token %d never held the lock", f.token)
	case own.to == 0 || !own.until.Before(f.thawed):
		return broken("it was not frozen past its TTL: token %d held the lock when it woke", f.token)
	case next == nil:
		return broken("nobody has held the lock since")
	case next.token <= f.token:
		return broken("token %d came after %d", next.token, f.token)
	}
	var written []entry
	for _, e := range f.entries {
		if e.Token == f.token {
			return broken("order %d was written under token %d, at revision %d", e.Number, f.token, e.revision)
		}
		if e.Number == f.number {
			written = append(written, e)
		}
	}
	switch {
	case len(written) != 1:
		return broken("order %d was written %d times", f.number, len(written))
	case written[0].revision >= own.to && written[0].Token < next.token:
		return broken("order %d has token %d, smaller than %d", f.number, written[0].Token, next.token)
	case f.late.Number != f.number || !f.late.at.After(f.thawed):
		return broken("the late write was not made")
	case !f.late.Lost:
		return broken("the late write was not refused as lost, but: %s", f.late.Reason)
	case f.late.Revision < written[0].revision:
		return broken("etcd refused the late write at revision %d, before order %d was written", f.late.Revision, f.number)
	case !f.late.Told:
		return broken("the first check after the freeze did not say that the lock was lost")
	}
	return fmt.Sprintf("order %d: %d refused, %d written", f.number, f.token, written[0].Token), nil
}
