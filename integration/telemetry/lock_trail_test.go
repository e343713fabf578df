package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// trailSpan returns the only span of a name that has ended in a trace.
func trailSpan(t *testing.T, name string, parent trace.SpanContext) sdktrace.ReadOnlySpan {
	t.Helper()
	var found sdktrace.ReadOnlySpan
	etcdtest.Eventually(t, sessionSoon, "the span", func(context.Context) error {
		all := trailSpans(name, parent)
		if len(all) != 1 {
			return fmt.Errorf("%d spans named %q have ended, want 1", len(all), name)
		}
		found = all[0]
		return nil
	})
	return found
}

// trailSpans returns the spans of a name that have ended so far in a trace.
func trailSpans(name string, parent trace.SpanContext) (all []sdktrace.ReadOnlySpan) {
	for _, s := range spans.Ended() {
		if s.Name() == name && s.SpanContext().TraceID() == parent.TraceID() {
			all = append(all, s)
		}
	}
	return all
}

// trailAttributes are what a span says.
func trailAttributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, kv := range s.Attributes() {
		all[string(kv.Key)] = kv.Value.String()
	}
	return all
}

// trailTrace begins a trace, as a request does.
func trailTrace(t *testing.T) (context.Context, trace.SpanContext) {
	ctx, span := otel.Tracer("test").Start(t.Context(), "request")
	t.Cleanup(func() { span.End() })
	return ctx, span.SpanContext()
}

// trailWait lets a lock be waited for that another holds, and returns when it is asked for, with what it will return.
func trailWait(ctx context.Context, t *testing.T, cli *clientv3.Client, name string, wait locker) <-chan error {
	t.Helper()
	answer := make(chan error, 1)
	go func() {
		held, err := wait(ctx, false)
		answer <- errors.Join(err, held.Unlock(context.WithoutCancel(ctx)))
	}()
	etcdtest.WaitKeys(t, sessionSoon, cli, name+"/", 2)
	return answer
}

func TestTheSpanOfWhoWaitsLeadsToTheHolder(t *testing.T) {
	for _, kind := range lockKinds {
		t.Run(kind, func(t *testing.T) {
			cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
			holding, holder := trailTrace(t)
			held, err := lockersOf(sessionOpen(t, cli, nil), name)["writer"](holding, false)
			if err != nil {
				t.Fatal(err)
			}
			waiting, waiter := trailTrace(t)
			answer := trailWait(waiting, t, cli, name, lockersOf(sessionOpen(t, cli, nil), name)[kind])
			lockUnlock(t, held)
			if err := etcdtest.Receive(t, sessionSoon, "the lock", answer); err != nil {
				t.Fatal(err)
			}

			first, second := trailSpan(t, "lock", holder), trailSpan(t, "lock", waiter)
			if len(first.Links()) != 0 {
				t.Errorf("who has not waited has a link: %v", first.Links())
			}
			links := second.Links()
			if len(links) != 1 || links[0].SpanContext.SpanID() != first.SpanContext().SpanID() ||
				links[0].SpanContext.TraceID() != holder.TraceID() {
				t.Errorf("the links are %+v, want one to the holder's span %v", links, first.SpanContext())
			}
			if second.SpanKind() != trace.SpanKindInternal || second.Status().Code != codes.Unset {
				t.Errorf("the span is %v, %v", second.SpanKind(), second.Status())
			}
			said := trailAttributes(first)
			if said["etcdkit.token"] != attribute.Int64("", int64(held.Guard().Token)).Value.String() {
				t.Errorf("the token %s is not that of the guard: %v", said["etcdkit.token"], held.Guard())
			}
			said = trailAttributes(second)
			if said["etcdkit.lock.name"] != name || said["etcdkit.lock.kind"] != kind || said["etcdkit.outcome"] != "acquired" || said["etcdkit.token"] == "" {
				t.Errorf("the span says %v", said)
			}
		})
	}
}

func TestASpanSaysThatNothingWasHeldAndNotMore(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	holding, holder := trailTrace(t)
	s := sessionOpen(t, cli, nil)
	if _, err := lock.NewMutex(s, name).Lock(holding); err != nil {
		t.Fatal(err)
	}
	lost := sessionOpen(t, cli, nil)
	if err := lost.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for outcome, ask := range map[string]func(ctx context.Context) error{
		"locked": func(ctx context.Context) error {
			_, err := lock.NewMutex(s, name).TryLock(ctx)
			return err
		},
		"cancelled": func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			var calls etcdtest.Calls
			seen := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			unhindered := make(chan struct{})
			close(unhindered)
			asked := calls.Inject(etcdtest.Fault{Call: "Range", Match: asksForHolder, Hold: unhindered})
			answer := trailWait(ctx, t, cli, name, lockersOf(sessionOpen(t, seen, nil), name)["mutex"])
			etcdtest.Done(t, sessionSoon, "the question for the holder", asked.Hit()) // a wait that has not begun asks for nobody
			cancel(errors.New("the secret reason"))
			return etcdtest.Receive(t, sessionSoon, "the end of the wait", answer)
		},
		"failed": func(ctx context.Context) error {
			_, err := lock.NewMutex(lost, name).Lock(ctx)
			return err
		},
	} {
		t.Run(outcome, func(t *testing.T) {
			ctx, asker := trailTrace(t)
			if err := ask(ctx); err == nil {
				t.Fatal("no error")
			}
			span := trailSpan(t, "lock", asker)
			want := sdktrace.Status{Code: codes.Error, Description: outcome}
			if outcome == "locked" { // that is an answer
				want = sdktrace.Status{}
			}
			if span.Status() != want || len(span.Events()) != 0 {
				t.Errorf("the status is %+v, with the events %v, want %+v", span.Status(), span.Events(), want)
			}
			if said := trailAttributes(span); said["etcdkit.outcome"] != outcome || said["etcdkit.token"] != "" {
				t.Errorf("the span says %v", said)
			}
			linked := slices.ContainsFunc(span.Links(), func(l sdktrace.Link) bool { return l.SpanContext.TraceID() == holder.TraceID() })
			if linked != (outcome == "cancelled") {
				t.Errorf("the links are %+v", span.Links())
			}
		})
	}
}

// asksForHolder finds the read of the line as it was when the waiter came. It is the only read of a past revision.
func asksForHolder(message any) bool {
	r, ok := message.(*pb.RangeRequest)
	return ok && r.GetRevision() != 0
}

func TestAWaitDoesNotWaitForTheHoldersName(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	holding, holder := trailTrace(t)
	held, err := lock.NewMutex(sessionOpen(t, cli, nil), name).Lock(holding)
	if err != nil {
		t.Fatal(err)
	}
	var calls etcdtest.Calls
	slow := sessionOpen(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), nil)
	answered := make(chan struct{})
	asked := calls.Inject(etcdtest.Fault{Call: "Range", Match: asksForHolder, Hold: answered})
	waiting, waiter := trailTrace(t)
	answer := trailWait(waiting, t, cli, name, lockersOf(slow, name)["mutex"])
	etcdtest.Done(t, sessionSoon, "the question for the holder", asked.Hit())
	lockUnlock(t, held)
	if err := etcdtest.Receive(t, time.Second, "the lock, though etcd has not said who holds it", answer); err != nil {
		t.Fatal(err)
	}
	if early := trailSpans("lock", waiter); len(early) != 0 {
		t.Errorf("the span has ended without its link: %v", early)
	}
	had := time.Now()
	close(answered)
	span := trailSpan(t, "lock", waiter)
	if len(span.Links()) != 1 || span.Links()[0].SpanContext.TraceID() != holder.TraceID() {
		t.Errorf("the links are %+v, want one to who held the lock at first", span.Links())
	}
	if span.EndTime().After(had) {
		t.Errorf("the span ends %v after the lock was had", span.EndTime().Sub(had))
	}
}

func TestAClosedSessionEndsTheSpanOfWhoWaits(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	if _, err := lock.NewMutex(sessionOpen(t, cli, nil), name).Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	var calls etcdtest.Calls
	mine := sessionOpen(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), nil)
	asked := calls.Inject(etcdtest.Fault{Call: "Range", Match: asksForHolder, Silent: true})
	waiting, waiter := trailTrace(t)
	answer := trailWait(waiting, t, cli, name, lockersOf(mine, name)["mutex"])
	etcdtest.Done(t, sessionSoon, "the question for the holder", asked.Hit())
	etcdtest.Returns(t, time.Second, "Close", func() {
		if err := mine.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := etcdtest.Receive(t, sessionSoon, "the end of the wait", answer); !errors.Is(err, session.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	if status := trailSpan(t, "lock", waiter).Status(); status.Description != "failed" {
		t.Errorf("the status is %+v", status)
	}
}

func TestNobodyAsksForTheHolderWhoIsNotTraced(t *testing.T) {
	cli, name := etcdtest.Client(t), strings.TrimSuffix(etcdtest.Prefix(t), "/")
	var calls etcdtest.Calls
	s := sessionOpen(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), nil)
	passes := make(chan struct{})
	close(passes)
	asked := calls.Inject(etcdtest.Fault{Call: "Range", Match: asksForHolder, Hold: passes, Times: -1})
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Remote: true})
	traced, _ := trailTrace(t)
	for ctx, want := range map[context.Context]int{
		trace.ContextWithSpanContext(t.Context(), unsampled): 0,
		traced: 1,
	} {
		held, err := lock.NewMutex(sessionOpen(t, cli, nil), name).Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := asked.Hits()
		answer := trailWait(ctx, t, cli, name, lockersOf(s, name)["mutex"])
		lockUnlock(t, held)
		if err := etcdtest.Receive(t, sessionSoon, "the lock", answer); err != nil {
			t.Fatal(err)
		}
		etcdtest.Eventually(t, sessionSoon, "the question", func(context.Context) error {
			if n := asked.Hits() - before; n != want {
				return fmt.Errorf("asked %d times, want %d", n, want)
			}
			return nil
		})
	}
}
