package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// fails waits for a health check to fail.
func fails(t *testing.T, h *election.Health) error {
	t.Helper()
	var err error
	etcdtest.Eventually(t, soon, "a failing check", func(context.Context) error {
		if err = h.Check(); err == nil {
			return errors.New("healthy")
		}
		return nil
	})
	return err
}

func TestHealthTellsOfALeadThatOutlivesItsTerm(t *testing.T) {
	t.Parallel()
	const tolerance = 200 * time.Millisecond
	health := election.NewHealth(tolerance)
	if err := health.Check(); err != nil {
		t.Errorf("before anything runs: %v", err)
	}
	prefix := etcdtest.Prefix(t)
	opts := &election.Options{Health: health, DrainTimeout: 10 * time.Millisecond, Retry: retry.Policy{Initial: time.Minute, Max: time.Minute}}
	lost, drained, well := hang(t, prefix+"lost", opts), hang(t, prefix+"drained", opts), hang(t, prefix+"well", opts)
	if err := health.Check(); err != nil {
		t.Errorf("while all lead: %v", err)
	}
	etcdtest.Shared(t).Delete(lost.term.Guard().Key)
	etcdtest.Done(t, soon, "the loss", lost.term.Context().Done())
	at := time.Now()
	err := fails(t, health)
	if took := time.Since(at); took < tolerance {
		t.Errorf("a lead was given %v to return, want %v", took, tolerance)
	}
	if !errors.Is(err, fence.ErrLost) || !strings.Contains(err.Error(), lost.name) || strings.Contains(err.Error(), well.name) ||
		!strings.Contains(err.Error(), "lead still runs, 2") {
		t.Errorf("%v, want the name, the cause and for how long", err)
	}
	drained.end(errWork)
	etcdtest.Eventually(t, soon, "both", func(context.Context) error {
		if err := health.Check(); !errors.Is(err, election.ErrDrainTimeout) || !errors.Is(err, fence.ErrLost) {
			return err
		}
		return nil
	})
	lost.end(errWork)
	lost.goOn <- nil
	_ = etcdtest.Receive(t, soon, "Run", lost.ended)
	if err := health.Check(); !errors.Is(err, election.ErrDrainTimeout) || errors.Is(err, fence.ErrLost) || !strings.Contains(err.Error(), drained.name) {
		t.Errorf("%v, want what is drained alone", err)
	}
	drained.goOn <- nil
	_ = etcdtest.Receive(t, soon, "Run", drained.ended)
	if err := health.Check(); err != nil {
		t.Errorf("when all that were late have returned: %v", err)
	}
	well.goOn <- nil
	_ = etcdtest.Receive(t, soon, "Run", well.ended)
}

func TestHealthIsPatientByDefaultAndNotAtAllIfToldSo(t *testing.T) {
	t.Parallel()
	var zero election.Health
	impatient := election.NewHealth(-1)
	prefix := etcdtest.Prefix(t)
	for what, health := range map[string]*election.Health{"the zero value": &zero, "zero": election.NewHealth(0), "none": impatient} {
		h := hang(t, prefix+what, &election.Options{Health: health})
		etcdtest.Shared(t).Delete(h.term.Guard().Key)
		etcdtest.Done(t, soon, "the loss", h.term.Context().Done())
		if health == impatient {
			fails(t, health)
		} else if err := health.Check(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		h.end(errWork)
		h.goOn <- nil
		_ = etcdtest.Receive(t, soon, "Run", h.ended)
	}
}

func TestTheTimeToReturnBeginsWithTheLossAndNotWithTheFirstCheckAfterIt(t *testing.T) {
	t.Parallel()
	const tolerance = 200 * time.Millisecond
	health := election.NewHealth(tolerance)
	h := hang(t, etcdtest.Prefix(t)+"name", &election.Options{Health: health})
	etcdtest.Shared(t).Delete(h.term.Guard().Key)
	etcdtest.Done(t, soon, "the loss", h.term.Context().Done())
	etcdtest.Nothing(t, 2*tolerance, "Run, while lead runs", h.ended)
	if err := health.Check(); !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v, want the loss", err)
	}
	h.end(errWork)
	h.goOn <- nil
	_ = etcdtest.Receive(t, soon, "Run", h.ended)
}

// It knows what it does.
func TestHealthHasNothingAgainstALeadThatHasGivenItsTermUp(t *testing.T) {
	t.Parallel()
	health := election.NewHealth(-1)
	name := etcdtest.Prefix(t) + "name"
	h := hang(t, name, &election.Options{Health: health})
	campaigning(t, open(t, etcdtest.Client(t)), name, "next", 2)
	transfer(t, h.term, "next")
	if err := health.Check(); err != nil {
		t.Error(err)
	}
	h.goOn <- nil
	_ = etcdtest.Receive(t, soon, "Run", h.ended)
}

func TestHealthForgetsALeadThatPanicked(t *testing.T) {
	t.Parallel()
	health := election.NewHealth(-1)
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	func() {
		defer func() { _ = recover() }()
		_ = election.Run(t.Context(), cli, name, "", &election.Options{Health: health}, func(ctx context.Context, term *election.Term) error {
			etcdtest.Shared(t).Delete(term.Guard().Key)
			<-ctx.Done()
			panic(errWork)
		})
	}()
	if err := health.Check(); err != nil {
		t.Error(err)
	}
}
