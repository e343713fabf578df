package election

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/session"
)

// ErrReentrant is what Campaign returns under the context of a term of the same election.
var ErrReentrant = errors.New("election: led by the caller already: waiting for the next term would never end")

// Campaign stands for an election through s and returns when it leads. value is what others see of the leader.
// ctx bounds the wait, not the term; the wait ends within a quarter of a second of ctx, whether etcd can be
// reached or not. On any error nothing stays in line.
//
// If its key is deleted while it waits, by a leader that hands over past it ([Term.TransferTo]) or by somebody else, it
// stands again, as a newcomer.
//
// It returns ctx's cause; the cause of the session's end, which is [fence.ErrLost], if that came first;
// [ErrReentrant] under the context of a term; or an error that names the rule that the name breaks, or the
// endpoint that failed. Transient failures of etcd are waited out.
func Campaign(ctx context.Context, s *session.Session, name, value string) (*Term, error) {
	if err := names.Opaque("election", name); err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	stands(name)
	defer withdraws(name)
	ctx, span := scope.Start(ctx, "campaign", trace.SpanKindInternal)
	term, err := campaign(ctx, s, name, value)
	if span.IsRecording() {
		traced(ctx, span, name, term, err)
	}
	return term, err
}

// campaign is Campaign, within its span.
func campaign(ctx context.Context, s *session.Session, name, value string) (*Term, error) {
	failed := func(err error) (*Term, error) { return nil, fmt.Errorf("election %q: %w", name, err) }
	if ctx.Err() != nil {
		return failed(context.Cause(ctx))
	}
	if _, err := s.Live(ctx); err != nil {
		return failed(err)
	}
	prefix := turn.Prefix(name)
	if turn.Within(ctx, s, prefix) {
		return failed(ErrReentrant)
	}
	place, err := turn.Stand(ctx, s, prefix, turn.Share{}, value, true, nil)
	if err != nil {
		return failed(err)
	}
	return newTerm(s, name, place), nil
}
