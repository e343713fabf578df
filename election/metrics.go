package election

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/telemetry"
	"github.com/etcdkit/etcdkit/internal/turn"
)

var (
	scope = telemetry.For("election")

	transitions = scope.Counter("etcdkit.election.transitions", "{transition}", "Terms of this process that began, and how they ended.")
	_           = scope.Observe("etcdkit.election.leading", "{term}", "1 while this process leads, 0 while it stands.", observeLeading)
)

const (
	attrName  = attribute.Key("etcdkit.election.name")
	attrToken = attribute.Key("etcdkit.token")
)

// taking are those of this process that take part in elections, for the gauge.
var taking = struct {
	sync.Mutex
	part  map[string]int     // guarded by Mutex: how many Runs and Campaigns of an election are under way
	terms map[*Term]struct{} // guarded by Mutex: terms that have not ended, or are being resigned
}{part: map[string]int{}, terms: map[*Term]struct{}{}}

func observeLeading(_ context.Context, put telemetry.Put) {
	for name, leads := range leadingNow() {
		value := 0.0
		if leads {
			value = 1
		}
		put(value, telemetry.Attributes(attrName.String(name)))
	}
}

// leadingNow returns the elections that this process takes part in, and whether it leads.
func leadingNow() map[string]bool {
	leads := map[string]bool{}
	var terms []*Term
	taking.Lock()
	for name := range taking.part {
		leads[name] = false
	}
	for t := range taking.terms {
		terms = append(terms, t)
	}
	taking.Unlock()
	for _, t := range terms { // without the lock: a look at the clock may end the term
		leads[t.name] = leads[t.name] || t.Context().Err() == nil
	}
	return leads
}

// stands notes that somebody takes part in an election.
func stands(name string) {
	taking.Lock()
	defer taking.Unlock()
	taking.part[name]++
}

// withdraws takes that back.
func withdraws(name string) {
	taking.Lock()
	defer taking.Unlock()
	if taking.part[name]--; taking.part[name] == 0 {
		delete(taking.part, name)
	}
}

// begin makes the place that owns the term's.
func (t *Term) begin(place *turn.Place) {
	t.count("elected")
	taking.Lock()
	defer taking.Unlock() // so that the end of the hold, which may have come already, is told after this
	t.hold = turn.Own(place, (*ending)(t))
	taking.terms[t] = struct{}{}
}

// ending is the term as it is told how it ends.
type ending Term

// Ended takes the term out of those that lead, and counts its end.
func (e *ending) Ended(how turn.End) {
	t := (*Term)(e)
	taking.Lock()
	delete(taking.terms, t)
	taking.Unlock()
	switch how {
	case turn.Released:
		t.count("resigned")
	case turn.Transferred:
		t.count("transferred")
	case turn.Lost:
		t.count("lost")
	}
}

// count counts a term's beginning or its end.
func (t *Term) count(outcome string) {
	if ctx := context.Background(); transitions.Enabled(ctx) {
		transitions.Add(ctx, 1, telemetry.Attributes(attrName.String(t.name), telemetry.Outcome.String(outcome)))
	}
}

// traced ends the span of a campaign with what came of it, in one word: texts of errors may name anything.
func traced(ctx context.Context, span trace.Span, name string, t *Term, err error) {
	defer span.End()
	span.SetAttributes(attrName.String(name))
	outcome := "elected"
	switch {
	case err == nil:
		span.SetAttributes(attrToken.Int64(int64(t.Guard().Token)))
	case ctx.Err() != nil:
		outcome = "cancelled"
	default:
		outcome = "failed"
	}
	span.SetAttributes(telemetry.Outcome.String(outcome))
	if err != nil {
		span.SetStatus(codes.Error, outcome)
	}
}
