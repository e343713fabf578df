package queue

import (
	"strings"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// longestReason is how much is kept of what an attempt has failed with.
const longestReason = 1 << 10

// againOps put a job back after an attempt. One that is to wait moves to the place of the time when it is due; else it stays where it
// is, first in line.
func (t *trade) againOps(at place, r record, attempts int, after time.Duration, why string) (ops []clientv3.Op, size int) {
	own := r.ID // the producer's own, under which it is remembered
	r = t.kept(at, r, attempts, why)
	to := at
	if after > 0 {
		to.stem, to.delayed = t.producer.stemDue(time.Now().Add(after).UnixMicro()), true
		ops = append(ops, clientv3.OpDelete(t.keys.job(at)))
		if own != "" && !generated(own) {
			ops = append(ops, clientv3.OpPut(t.keys.waiting(own), to.path()))
		}
	} else if r.ID == at.stem {
		r.ID = ""
	}
	value := string(r.encode())
	return append(ops, clientv3.OpPut(t.keys.job(to), value)), len(value)
}

// deadOps make a job a dead letter.
func (t *trade) deadOps(at place, r record, attempts int, why string) (ops []clientv3.Op, size int) {
	own := r.ID
	r = t.kept(at, r, attempts, why)
	r.Place, r.Died = at.path(), time.Now().UTC().Truncate(time.Millisecond)
	value := string(r.encode())
	ops = []clientv3.Op{clientv3.OpDelete(t.keys.job(at)), clientv3.OpPut(t.keys.dead(r.ID), value)}
	if own != "" && !generated(own) {
		ops = append(ops, clientv3.OpDelete(t.keys.waiting(own)))
	}
	return ops, len(value)
}

// kept is a record after an attempt: with what its place says of it, as that may change.
func (t *trade) kept(at place, r record, attempts int, why string) record {
	if r.ID == "" {
		r.ID = at.stem
	}
	if r.Pushed.IsZero() {
		r.Pushed = at.at().UTC().Truncate(time.Millisecond)
	}
	r.Attempts, r.Err = attempts, shorten(why)
	return r
}

// shorten cuts what an attempt has failed with.
func shorten(why string) string {
	why = strings.ToValidUTF8(why, "\ufffd")
	if len(why) <= longestReason {
		return why
	}
	cut := longestReason
	for !utf8.RuneStart(why[cut]) {
		cut--
	}
	return why[:cut] + "…"
}
