package election

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdkit/etcdkit/internal/turn"
)

var (
	// ErrNoCandidate is what TransferTo returns when nobody stands by the key or the value that it was given.
	ErrNoCandidate = errors.New("election: no such candidate")

	// ErrInTheWay is what TransferTo returns when a candidate of etcd's own tools would have to be passed: it would take the
	// loss of its place for its turn.
	ErrInTheWay = errors.New("election: a candidate that cannot be passed is in the way")
)

// TransferTo ends the term and makes one who stands the leader: candidate is the Key of one of the [Candidates], or else the
// Value. Of several with that value it is the first; if that is the leader itself, nothing happens and the error is nil.
//
// The term's Context ends first. Then one transaction takes out of line who is ahead of the candidate, and the leader: there is
// no moment at which another one leads. Those who were ahead stand again behind all others, if they wait in [Campaign] or [Run].
// Under Run, lead is to return then, as after Resign.
//
// It returns [ErrNoCandidate] if nobody such stands, and [ErrInTheWay], with the key, if one is ahead that etcdctl or etcd's
// concurrency package has put there; the term goes on. If the candidate leaves while it is under way, the term is resigned
// plainly, and the error is ErrNoCandidate. If the term is over already it returns the cause of its end.
//
// It works with a ctx that is done, then for a moment (150 ms). If etcd has not answered by then it returns ctx's cause: either
// the term goes on, or its Context has ended and handing over goes on until the session ends; then Resign learns what
// became of the term, and Observe of the candidate.
func (t *Term) TransferTo(ctx context.Context, candidate string) error {
	err := t.hold.Transfer(ctx, func(line []*mvccpb.KeyValue) (int, error) {
		return successor(turn.Prefix(t.name), line, candidate)
	})
	switch {
	case errors.Is(err, turn.ErrLeft):
		return fmt.Errorf("election %q: %w: %w", t.name, ErrNoCandidate, err)
	case err != nil:
		return fmt.Errorf("election %q: %w", t.name, err)
	}
	return nil
}

// successor finds a candidate in a line whose first is the leader. It fails if the candidate cannot be made the next.
func successor(prefix string, line []*mvccpb.KeyValue, candidate string) (int, error) {
	i := slices.IndexFunc(line, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == candidate })
	if i < 0 {
		i = slices.IndexFunc(line, func(kv *mvccpb.KeyValue) bool { return string(kv.Value) == candidate })
	}
	if i < 0 {
		return 0, fmt.Errorf("%w: %q", ErrNoCandidate, candidate)
	}
	for _, kv := range line[min(1, i):i] {
		if !turn.Numbered(prefix, string(kv.Key)) {
			return 0, fmt.Errorf("%w: %q", ErrInTheWay, kv.Key)
		}
	}
	return i, nil
}
