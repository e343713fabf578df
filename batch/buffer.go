package batch

import "time"

// write is what is to become of one key: the last of the operations on it that were made before it was sent.
type write struct {
	key, value string
	deletes    bool // the key, instead of putting the value

	size  int       // in an encoded transaction
	since time.Time // when it could first be sent
	seq   uint64    // numbers writes in the order in which they were first made
	made  int       // how many operations it stands for; all but the last are superseded

	sent bool
	next *write // the write of the same key that waits for this one's fate; only of one that was sent

	fate
	settled bool          // the fate is known
	done    chan struct{} // closed when it is; nil until somebody asks
}

// fate is what became of a write.
type fate struct {
	revision int64 // at which it was applied
	verdict  error // ErrNotApplied or ErrUnknown; nil if it was applied
	reason   error // of the verdict
}

// buffer holds every write that has no fate yet, and knows which of them go into the next transaction. It does no I/O
// and knows no time but what it is told; the Writer's mutex guards it.
//
// The order of one key. A key has at most one write in flight and one behind it:
//
//	Put(k, 1)  k: 1 ready                            in the queue
//	cut        k: 1 in flight                        with others, as transaction A
//	Put(k, 2)  k: 1 in flight, then 2                2 is not in the queue: if it were, transaction B could take
//	                                                 it, and etcd could see B before A
//	Put(k, 3)  k: 1 in flight, then 3                3 takes the place of 2
//	land(1)    k: 3 ready                            at the end of the queue
//
// So a transaction never holds a key twice, which etcd refuses, and two in flight never share one.
type buffer struct {
	maxOps, maxBytes int
	interval         time.Duration

	keys  map[string]*write // by key, the one in flight if there is one
	ready []*write          // those that may be sent, the one that has waited longest first
	bytes int               // their size together
	seq   uint64            // the last one given out
	open  int               // how many writes have no fate
}

// add takes an operation in. It returns the write that stands for it now, and what that gave up of its size
// because the operation has taken the place of an earlier one, or -1.
func (b *buffer) add(op write, now time.Time) (w *write, replaced int) {
	behind := b.keys[op.key]
	w = behind
	if behind != nil && behind.sent {
		w = behind.next
	}
	if w != nil {
		replaced = w.size
		if behind == w { // in the queue, then, and not behind one in flight
			b.bytes += op.size - w.size
		}
		w.value, w.deletes, w.size = op.value, op.deletes, op.size
		w.made++
		return w, replaced
	}

	b.seq++
	b.open++
	w = new(op)
	w.seq, w.made = b.seq, 1
	if behind != nil {
		behind.next = w
	} else {
		b.keys[w.key] = w
		b.enqueue(w, now)
	}
	return w, -1
}

func (b *buffer) enqueue(w *write, now time.Time) {
	w.since = now
	b.ready = append(b.ready, w)
	b.bytes += w.size
}

// due reports whether a transaction is to be sent: somebody waits for it, it is full, or its first write has had its
// time.
func (b *buffer) due(now time.Time, urgent bool) bool {
	switch {
	case len(b.ready) == 0:
		return false
	case urgent, len(b.ready) >= b.maxOps, b.bytes >= b.maxBytes:
		return true
	}
	return b.wait(now) <= 0
}

// wait is how long the first write in the queue may still wait for company. There must be one.
func (b *buffer) wait(now time.Time) time.Duration {
	return b.interval - now.Sub(b.ready[0].since)
}

// cut takes the next transaction from the queue: as much as fits, in order. There is at least one write in it, since no
// single one is larger than maxBytes.
func (b *buffer) cut() []*write {
	n, size := 0, 0
	for n < min(len(b.ready), b.maxOps) && (n == 0 || size+b.ready[n].size <= b.maxBytes) {
		size += b.ready[n].size
		n++
	}
	cargo := make([]*write, n)
	copy(cargo, b.ready)
	for _, w := range cargo {
		w.sent = true
	}
	clear(b.ready[:n]) // the array lives on
	b.ready = b.ready[n:]
	b.bytes -= size
	return cargo
}

// land gives a write that was sent its fate. What has waited behind it may be sent from now on.
func (b *buffer) land(w *write, f fate, now time.Time) {
	b.settle(w, f)
	if w.next == nil {
		delete(b.keys, w.key)
		return
	}
	b.keys[w.key] = w.next
	b.enqueue(w.next, now)
	w.next = nil
}

// drop gives every write that was not sent the same fate, and returns them.
func (b *buffer) drop(f fate) []*write {
	var dropped []*write
	for key, w := range b.keys {
		if w.sent {
			if w.next == nil {
				continue
			}
			w.next, w = nil, w.next
		} else {
			delete(b.keys, key)
		}
		b.settle(w, f)
		dropped = append(dropped, w)
	}
	b.ready, b.bytes = nil, 0
	return dropped
}

func (b *buffer) settle(w *write, f fate) {
	w.fate, w.settled = f, true
	if w.done != nil {
		close(w.done)
	}
	b.open--
}
