package queue

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// mostClaims is how many jobs one transaction claims: each is a transaction within it, whose own operations etcd counts, too.
const mostClaims = 64

// claimWithin bounds one attempt to claim, so that the next one meets another endpoint.
const claimWithin = time.Second

// target is a job that one transaction tries to claim.
type target struct {
	entry *entry
	place place
	path  string
	mod   int64
}

// targets are what a choice names. The caller holds mu.
func targets(chosen choice) [][]target {
	slots := make([][]target, len(chosen.slots))
	for i, slot := range chosen.slots {
		for _, e := range slot {
			e.asked = true
			slots[i] = append(slots[i], target{e, e.place, e.path, e.mod})
		}
	}
	return slots
}

// run is the part of the line that jobs to be claimed are in, if they are of one priority and hardly any others are between them: then they are
// read at once, and not each for itself. It is bare if none of the others is claimed and no ordering key is to be minded: then one comparison
// says that all of them are free.
type run struct {
	from, to string // "" if there is none
	bare     bool
}

// together looks for the run that jobs to be claimed are in. The caller holds mu.
func (w *window) together(slots [][]target) run {
	const few = 4
	if len(slots) < few {
		return run{}
	}
	r := run{slots[0][0].path, slots[len(slots)-1][0].path, true}
	for _, slot := range slots {
		if len(slot) > 1 || slot[0].path[:3] != r.from[:3] {
			return run{}
		}
	}
	l := w.lane(r.from[:3])
	first, _ := l.find(r.from)
	last, _ := l.find(r.to)
	if last-first > len(slots)+len(slots)/few {
		return run{}
	}
	for _, e := range l.entries[first : last+1] {
		if e.worker != "" || e.place.key != "" {
			r.bare = false
		}
	}
	return r
}

// claim tries to claim jobs, in one transaction, and returns what it got.
//
// Its reply may be lost. It is not sent again then: claims that it has made, or makes later, show in the tail, are in nobody's
// hands, and are given back (see sweep).
func (s *shift) claim(ctx context.Context, slots [][]target, r run) (got []*claim, err error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.asked = false
				if err != nil {
					t.entry.after = time.Now().Add(strayAfter)
				}
			}
		}
	}()
	if r.bare {
		if got, all, err := s.claimRun(ctx, slots, r); all || err != nil {
			return got, err
		}
	}
	return s.claimEach(ctx, slots, r)
}

// commit sends a transaction that claims, if the queue is not paused and the worker's key is there.
func (s *shift) commit(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), claimWithin)
	defer cancel()
	resp, err := s.client.KV.Txn(ctx).
		If(append(cmps,
			clientv3.Compare(clientv3.CreateRevision(s.keys.paused()), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(s.key), "=", s.created))...).
		Then(ops...).
		Commit()
	if err == nil {
		s.sess.Saw(resp.Header.GetRevision())
		s.tail.Heard(resp.Header.GetRevision())
	}
	return resp, err
}

// claimRun claims all jobs of a run, if nobody has claimed any. Whether they are all there is not compared, which would cost as much as the
// claims: the line is one worker's, mostly, who knows. One that is gone is claimed as well, and let go.
func (s *shift) claimRun(ctx context.Context, slots [][]target, r run) (got []*claim, all bool, err error) {
	ops := make([]clientv3.Op, len(slots), len(slots)+1)
	for i, slot := range slots {
		ops[i] = clientv3.OpPut(s.keys.claims()+slot[0].path, s.worker)
	}
	ops = append(ops, clientv3.OpGet(s.keys.jobs()+r.from, clientv3.WithRange(s.keys.jobs()+r.to+"\x00")))
	free := clientv3.Compare(clientv3.CreateRevision(s.keys.claims()+r.from), "=", 0).WithRange(s.keys.claims() + r.to + "\x00")
	resp, err := s.commit(ctx, []clientv3.Cmp{free}, ops)
	if err != nil || !resp.Succeeded {
		return nil, false, err
	}
	values := byPath(s.keys, resp.Responses[len(slots)].GetResponseRange())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slot := range slots {
		t := slot[0]
		if kv := values[t.path]; kv != nil {
			got = append(got, s.claimed(t, resp.Header.GetRevision(), kv))
			continue
		}
		t.entry.failed(resp.Header.GetRevision(), time.Now())
		s.settler.put(&settlement{claim: s.keys.claims() + t.path, token: resp.Header.GetRevision(), ops: s.unclaimOps(t.place), deletes: true})
	}
	return got, true, nil
}

// claimEach claims jobs each for itself, or one in its place.
func (s *shift) claimEach(ctx context.Context, slots [][]target, r run) ([]*claim, error) {
	ops := make([]clientv3.Op, len(slots), len(slots)+1)
	for i, slot := range slots {
		ops[i] = s.claimOp(slot, r.from != "")
	}
	if r.from != "" {
		ops = append(ops, clientv3.OpGet(s.keys.jobs()+r.from, clientv3.WithRange(s.keys.jobs()+r.to+"\x00")))
	}
	resp, err := s.commit(ctx, nil, ops)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, revision := time.Now(), resp.Header.GetRevision()
	if !resp.Succeeded {
		for _, slot := range slots {
			for _, t := range slot {
				t.entry.failed(revision, now)
			}
		}
		return nil, nil
	}
	var values map[string]*follow.Entry
	if r.from != "" {
		values = byPath(s.keys, resp.Responses[len(slots)].GetResponseRange())
	}
	var got []*claim
	for i, slot := range slots {
		reply := (*clientv3.TxnResponse)(resp.Responses[i].GetResponseTxn())
		for n, t := range slot {
			if reply.Succeeded {
				kv := values[t.path]
				if kv == nil {
					kv = reply.Responses[len(reply.Responses)-1].GetResponseRange().GetKvs()[0]
				}
				got = append(got, s.claimed(t, revision, kv))
				break
			}
			if t.entry.failed(revision, now); t.place.key != "" && t.entry.failures > 1 {
				s.blocked[t.place.key] = struct{}{}
				s.undo.give()
			}
			if n+1 < len(slot) {
				reply = (*clientv3.TxnResponse)(reply.Responses[0].GetResponseTxn())
			}
		}
	}
	return got, nil
}

// byPath are jobs that were read, by path.
func byPath(keys layout, read *etcdserverpb.RangeResponse) map[string]*follow.Entry {
	values := make(map[string]*follow.Entry, len(read.GetKvs()))
	for _, kv := range read.GetKvs() {
		values[string(kv.Key[len(keys.jobs()):])] = kv
	}
	return values
}

// claimOp claims the first job of a slot that can be had. It reads it, unless that is done otherwise.
func (s *shift) claimOp(slot []target, read bool) clientv3.Op {
	var otherwise []clientv3.Op
	for _, t := range slices.Backward(slot) {
		claim := s.keys.claims() + t.path
		cmps := []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(s.keys.jobs()+t.path), "=", t.mod),
			clientv3.Compare(clientv3.CreateRevision(claim), "=", 0),
		}
		ops := []clientv3.Op{clientv3.OpPut(claim, s.worker)}
		if t.place.key != "" {
			hold := s.keys.hold(t.place.key)
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(hold), "=", 0))
			ops = append(ops, clientv3.OpPut(hold, t.path))
		}
		if !read {
			ops = append(ops, clientv3.OpGet(s.keys.jobs()+t.path))
		}
		otherwise = []clientv3.Op{clientv3.OpTxn(cmps, ops, otherwise)}
	}
	return otherwise[0]
}
