package session

import (
	"context"
	"errors"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

var (
	scope = telemetry.For("session")

	renewals = scope.Counter("etcdkit.session.renewals", "{renewal}", "Renewals that were answered.")
	ends     = scope.Counter("etcdkit.session.ended", "{session}", "Sessions that ended; all but closed are losses.")
	_        = scope.Observe("etcdkit.session.open", "{session}", "Sessions of this process that are trusted.", observeOpen)
	_        = scope.Observe("etcdkit.session.remaining", "s", "The least time that trust in one of the sessions lasts without another renewal.", observeRemaining)
)

var (
	whole        = telemetry.Attributes()
	acknowledged = telemetry.Attributes(telemetry.Outcome.String("acknowledged"))
	notRenewed   = telemetry.Attributes(telemetry.Outcome.String("failed"))
)

// living are the sessions whose goroutine runs, for the gauges.
var living telemetry.Live[*Session]

func observeOpen(_ context.Context, put telemetry.Put) { put(float64(len(trustedNow())), whole) }

func observeRemaining(_ context.Context, put telemetry.Put) {
	least := time.Duration(math.MaxInt64)
	for _, s := range trustedNow() {
		least = min(least, s.remaining())
	}
	if least < math.MaxInt64 {
		put(max(0, least).Seconds(), whole)
	}
}

// trustedNow returns the sessions whose window is open by the clock.
func trustedNow() (all []*Session) {
	for _, s := range living.All() { // a look at the clock may end the session
		if s.ctx.Err() == nil {
			all = append(all, s)
		}
	}
	return all
}

// begun puts the session among those that live.
func (s *Session) begun() { living.Add(s) }

// over takes it out again, and counts its end by the cause. The goroutine that renews calls it, once.
func (s *Session) over() {
	living.Remove(s)
	if ctx := context.Background(); ends.Enabled(ctx) {
		ends.Add(ctx, 1, telemetry.Attributes(reason(context.Cause(s.ctx))))
	}
}

// reason is the cause of a session's end in one word.
func reason(cause error) attribute.KeyValue {
	word := "expired"
	switch {
	case errors.Is(cause, ErrClosed):
		word = "closed"
	case errors.Is(cause, errRevoked):
		word = "revoked"
	case errors.Is(cause, errRestored):
		word = "restored"
	case errors.Is(cause, errOtherCluster):
		word = "untrusted"
	}
	return telemetry.Reason.String(word)
}

// countRenewal counts an answer.
func countRenewal(outcome metric.MeasurementOption) {
	if ctx := context.Background(); renewals.Enabled(ctx) {
		renewals.Add(ctx, 1, outcome)
	}
}
