package telemetry_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// electionCounts returns a check of how many transitions of an election there have been in all.
func electionCounts(t *testing.T, name string) func(elected, resigned, transferred, lost float64) {
	t.Helper()
	of := func(outcome string) func(float64) {
		return sessionGrows(t, "etcdkit.election.transitions", "etcdkit.election.name", name, "etcdkit.outcome", outcome)
	}
	checks := [...]func(float64){of("elected"), of("resigned"), of("transferred"), of("lost")}
	return func(elected, resigned, transferred, lost float64) {
		t.Helper()
		for i, want := range [...]float64{elected, resigned, transferred, lost} {
			checks[i](want)
		}
	}
}

// electionLeading returns what the gauge says of an election: nothing, or its one value.
func electionLeading(t *testing.T, name string) (all []float64) {
	t.Helper()
	for _, p := range points(t, "etcdkit.election.leading") {
		if p.attrs["etcdkit.election.name"] == name {
			all = append(all, p.value)
		}
	}
	return all
}

// electionExpect fails the test unless the gauge says this of an election.
func electionExpect(t *testing.T, name, when string, want ...float64) {
	t.Helper()
	if got := electionLeading(t, name); len(got) != len(want) || len(want) == 1 && got[0] != want[0] {
		t.Errorf("%s the gauge says %v, want %v", when, got, want)
	}
}

// electionTerm stands for an election and is elected.
func electionTerm(ctx context.Context, t *testing.T, s *session.Session, name string) *election.Term {
	t.Helper()
	term, err := election.Campaign(ctx, s, name, "a value of the user's")
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func TestATermIsCountedWhenItBeginsAndOnceByHowItEnds(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	s := sessionOpen(t, cli, nil)
	counts := electionCounts(t, name)

	electionExpect(t, name, "before anybody stands")
	term := electionTerm(t.Context(), t, s, name)
	counts(1, 0, 0, 0)
	electionExpect(t, name, "during a term", 1)
	for range 2 {
		if err := term.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	counts(1, 1, 0, 0)
	electionExpect(t, name, "after a term")

	term = electionTerm(t.Context(), t, s, name)
	etcdtest.Shared(t).Delete(term.Guard().Key)
	etcdtest.Done(t, sessionSoon, "the loss", term.Context().Done())
	counts(2, 1, 0, 1)
	electionExpect(t, name, "after a loss")
	if err := term.Resign(t.Context()); !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	counts(2, 1, 0, 1)

	term = electionTerm(t.Context(), t, s, name)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcdtest.Done(t, sessionSoon, "the loss", term.Context().Done())
	counts(3, 1, 0, 2)
	electionExpect(t, name, "after the end of the session")
}

func TestATermThatIsBeingResignedDoesNotLead(t *testing.T) {
	name := strings.TrimSuffix(etcdtest.Prefix(t), "/")
	var calls etcdtest.Calls
	s := sessionOpen(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), nil)
	term := electionTerm(t.Context(), t, s, name)
	goOn, resigned := make(chan struct{}), make(chan error, 1)
	held := calls.Inject(etcdtest.Fault{Call: "Txn", Hold: goOn})
	go func() { resigned <- term.Resign(t.Context()) }()
	etcdtest.Done(t, sessionSoon, "the deletion", held.Hit())
	electionExpect(t, name, "while the term is being resigned", 0)
	close(goOn)
	if err := etcdtest.Receive(t, sessionSoon, "the answer", resigned); err != nil {
		t.Fatal(err)
	}
	electionExpect(t, name, "when it is")
}

func TestATransferIsNoResignation(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	counts := electionCounts(t, name)
	first := electionTerm(t.Context(), t, sessionOpen(t, cli, nil), name)
	next := sessionOpen(t, cli, nil)
	elected := make(chan *election.Term, 1)
	go func() {
		term, err := election.Campaign(t.Context(), next, name, "next")
		if err != nil {
			t.Error(err)
		}
		elected <- term
	}()
	etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
	if err := first.TransferTo(t.Context(), "nobody"); !errors.Is(err, election.ErrNoCandidate) {
		t.Fatalf("%v, want ErrNoCandidate", err)
	}
	counts(1, 0, 0, 0)
	if err := first.TransferTo(t.Context(), "next"); err != nil {
		t.Fatal(err)
	}
	second := etcdtest.Receive(t, sessionSoon, "the next term", elected)
	counts(2, 0, 1, 0)
	electionExpect(t, name, "during the next term", 1)
	if err := first.Resign(t.Context()); err != nil {
		t.Errorf("resigning after a transfer: %v", err)
	}
	if err := second.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts(2, 1, 1, 0)
	electionExpect(t, name, "after both terms")
}

func TestARunIsInTheGaugeFromItsBeginningToItsEnd(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	counts := electionCounts(t, name)
	const other = "/another-program"
	if _, err := cli.Put(t.Context(), name+other, ""); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	terms, over := make(chan *election.Term), make(chan error, 1)
	go func() {
		over <- election.Run(ctx, cli, name, "one of us", nil, func(ctx context.Context, term *election.Term) error {
			terms <- term
			<-ctx.Done()
			return nil
		})
	}()
	etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
	electionExpect(t, name, "while another leads", 0)
	counts(0, 0, 0, 0)
	etcdtest.Shared(t).Delete(name + other)
	term := etcdtest.Receive(t, sessionSoon, "the term", terms)
	electionExpect(t, name, "while it leads", 1)
	counts(1, 0, 0, 0)
	etcdtest.Shared(t).Delete(term.Guard().Key)
	etcdtest.Receive(t, sessionSoon, "the next term", terms)
	electionExpect(t, name, "while it leads again", 1)
	counts(2, 0, 0, 1)
	stop()
	if err := etcdtest.Receive(t, sessionSoon, "the end of Run", over); err != nil {
		t.Error(err)
	}
	counts(2, 1, 0, 1)
	electionExpect(t, name, "after Run")
}

func TestTheSpanOfACampaignSaysWhatCameOfIt(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	s := sessionOpen(t, cli, nil)
	ctx, winner := trailTrace(t)
	term := electionTerm(ctx, t, s, name)
	span := trailSpan(t, "campaign", winner)
	said := trailAttributes(span)
	if said["etcdkit.election.name"] != name || said["etcdkit.outcome"] != "elected" ||
		said["etcdkit.token"] != attribute.Int64("", int64(term.Guard().Token)).Value.String() || len(said) != 3 {
		t.Errorf("the span says %v", said)
	}
	if span.SpanKind() != trace.SpanKindInternal || span.Status().Code != codes.Unset {
		t.Errorf("the span is %v, %v", span.SpanKind(), span.Status())
	}

	ctx, loser := trailTrace(t)
	other := sessionOpen(t, cli, nil)
	standing, giveUp := context.WithCancelCause(ctx)
	answer := make(chan error, 1)
	go func() {
		_, err := election.Campaign(standing, other, name, "secret")
		answer <- err
	}()
	etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
	giveUp(errors.New("secret"))
	if err := etcdtest.Receive(t, sessionSoon, "the end of the campaign", answer); err == nil {
		t.Fatal("elected")
	}
	if status := trailSpan(t, "campaign", loser).Status(); status.Code != codes.Error || status.Description != "cancelled" {
		t.Errorf("the status is %+v", status)
	}

	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, late := trailTrace(t)
	if _, err := election.Campaign(ctx, s, name, "secret"); !errors.Is(err, session.ErrClosed) {
		t.Fatalf("%v, want ErrClosed", err)
	}
	if status := trailSpan(t, "campaign", late).Status(); status.Code != codes.Error || status.Description != "failed" {
		t.Errorf("the status is %+v", status)
	}
}
