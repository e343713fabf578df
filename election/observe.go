package election

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
)

// ErrNoLeader is what Current returns when nobody stands for the election.
var ErrNoLeader = errors.New("election: nobody leads")

// Leader is one who stands for an election, and leads if it is the first in line. The zero Leader is nobody.
type Leader struct {
	Key   string      // the place in line
	Value string      // what the candidate says of itself
	Token fence.Token // which term it is; 0 for nobody
}

// Current returns who leads, or [ErrNoLeader]. The answer may be old when it arrives; to follow changes use
// Observe, and to protect writes the guard of a term. ctx bounds it.
func Current(ctx context.Context, client *clientv3.Client, name string) (Leader, error) {
	if err := names.Opaque("election", name); err != nil {
		return Leader{}, fmt.Errorf("election: %w", err)
	}
	kv, err := turn.Owner(ctx, client, turn.Prefix(name))
	if err != nil {
		return Leader{}, fmt.Errorf("election %q: %w", name, err)
	}
	if kv == nil {
		return Leader{}, fmt.Errorf("election %q: %w", name, ErrNoLeader)
	}
	return leader(kv), nil
}

// Candidates returns all who stand, the leader first and then in the order in which they will lead. ctx bounds it.
func Candidates(ctx context.Context, client *clientv3.Client, name string) ([]Leader, error) {
	if err := names.Opaque("election", name); err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	line, err := turn.List(ctx, client, turn.Prefix(name))
	if err != nil {
		return nil, fmt.Errorf("election %q: %w", name, err)
	}
	candidates := make([]Leader, len(line))
	for i, kv := range line {
		candidates[i] = leader(kv)
	}
	return candidates, nil
}

// Observe yields who leads, and then each change: of the leader, of its value, and the zero Leader when nobody
// leads. Someone slow in taking them sees the newest and not those between. It ends with ctx only, and
// resumes by itself after whatever cut it off.
//
// An error says that the Leader beside it is the last one known but perhaps not the present one; it is nil
// again when it is. Only a name that is refused ends the iteration with its error.
func Observe(ctx context.Context, client *clientv3.Client, name string) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		if err := names.Opaque("election", name); err != nil {
			yield(Leader{}, fmt.Errorf("election: %w", err))
			return
		}
		o := newObserver(name)
		f := follow.Attach(client, follow.Prefix(o.prefix).For(follow.Election), o)
		defer f.Close()
		for s := range o.seen.Seq(ctx) {
			if s.known && !yield(s.leader, s.err) {
				return
			}
		}
	}
}

func leader(kv *mvccpb.KeyValue) Leader {
	return Leader{Key: string(kv.Key), Value: string(kv.Value), Token: fence.Token(kv.CreateRevision)}
}

// sighting is what an observer knows at one time.
type sighting struct {
	known  bool // false until etcd has answered or failed to
	leader Leader
	err    error
}

// observer follows the line of an election.
type observer struct {
	name   string
	prefix string
	line   map[string]*mvccpb.KeyValue // owned by the view's goroutine
	seen   *latest.Cell[sighting]
}

func newObserver(name string) *observer {
	return &observer{
		name:   name,
		prefix: turn.Prefix(name),
		line:   map[string]*mvccpb.KeyValue{},
		seen:   latest.New(sighting{}),
	}
}

// Changed takes in a step of the view.
func (o *observer) Changed(c follow.Change) {
	for _, ev := range c.Events {
		switch {
		case !turn.InLine(o.prefix, ev.Key):
		case ev.New == nil:
			delete(o.line, ev.Key)
		default:
			o.line[ev.Key] = ev.New
		}
	}
	s := sighting{known: true}
	var first *mvccpb.KeyValue
	for _, kv := range o.line {
		if first == nil || kv.CreateRevision < first.CreateRevision {
			first = kv
		}
	}
	if first != nil {
		s.leader = leader(first)
	}
	o.see(s)
}

// Stale marks the last leader known as perhaps not the present one.
func (o *observer) Stale(err error) {
	s := o.seen.Get()
	if s.err == nil {
		o.see(sighting{known: true, leader: s.leader, err: fmt.Errorf("election %q: not current: %w", o.name, err)})
	}
}

// Live takes the mark away.
func (o *observer) Live() {
	s := o.seen.Get()
	s.err, s.known = nil, true
	o.see(s)
}

// see publishes what is new.
func (o *observer) see(s sighting) {
	if s != o.seen.Get() {
		o.seen.Set(s)
	}
}
