package election

import (
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/internal/turn"
)

// Nobody has installed a provider here.
func TestWithoutAProviderATermIsMeasuredForNothing(t *testing.T) {
	term := &Term{name: "a"}
	round := func() {
		stands(term.name)
		_, span := scope.Start(t.Context(), "campaign", trace.SpanKindInternal)
		if span.IsRecording() {
			t.Error("there is somebody to be told")
		}
		term.count("elected")
		withdraws(term.name)
		for _, how := range []turn.End{turn.Released, turn.Transferred, turn.Lost} {
			(*ending)(term).Ended(how)
		}
	}
	taking.Lock()
	taking.terms[term] = struct{}{}
	taking.Unlock()
	round() // the gauge, and the map's first room
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	taking.Lock()
	defer taking.Unlock()
	if _, there := taking.terms[term]; there {
		t.Error("a term that has ended is kept for ever")
	}
}

func TestWhoStandsSeveralTimesIsInTheGaugeUntilTheLast(t *testing.T) {
	const name = "several"
	stands(name)
	stands(name)
	withdraws(name)
	if leads, there := leadingNow()[name]; !there || leads {
		t.Errorf("there: %v, leads: %v, want one who stands", there, leads)
	}
	withdraws(name)
	if _, there := leadingNow()[name]; there {
		t.Error("nobody stands, and the gauge says something")
	}
}
