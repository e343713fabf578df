package demo

import (
	"fmt"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// bookkeeping is the evidence about every order of the whole run.
type bookkeeping struct {
	writes history
}

// check holds if the whole history of etcd is known; the orders are numbered from 1 in the order in which they were written, each
// was written once and never changed; and each was written by who held the lock at that revision.
func (b bookkeeping) check() (string, error) {
	if missing := b.writes.gap(); missing != 0 {
		return broken("revision %d of etcd's history is not known", missing)
	}
	reigns := b.writes.reigns(orders.LockName)
	entries := b.writes.entries()
	if len(entries) == 0 {
		return broken("there are no orders")
	}
	for i, e := range entries {
		switch {
		case e.deleted || e.version != 1:
			return broken("%s was changed at revision %d", e.key, e.revision)
		case e.Number != i+1 || e.key != orders.BookKey(e.Number):
			return broken("order %d was expected at revision %d, not number %d in %s", i+1, e.revision, e.Number, e.key)
		}
		if o := owner(reigns, e.revision); o == nil || o.token != e.Token {
			return broken("order %d was written under token %d, which did not hold the lock at revision %d", e.Number, e.Token, e.revision)
		}
	}
	return fmt.Sprintf("1 to %d, all by who held; %d revisions", len(entries), b.writes.revision()), nil
}
