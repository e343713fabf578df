package retry_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// metrics reads what package retry has counted since the process began, in all tests.
var metrics = metric.NewManualReader()

// quiet swallows what a server logs about a client that does not trust it.
var quiet = log.New(io.Discard, "", 0)

// meter installs the provider. There is one a process: an instrument stays with the first.
func meter() { otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(metrics))) }

// attempts returns the count of failed attempts by their attributes, as text.
func attempts(t *testing.T) (counts map[string]int64, all string) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := metrics.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	counts = make(map[string]int64)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if m.Name != "etcdkit.retry.attempts" || !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				counts[text(p.Attributes.ToSlice())] = p.Value
			}
		}
	}
	return counts, fmt.Sprintf("%+v", data)
}

func text(attrs []attribute.KeyValue) string {
	set := attribute.NewSet(attrs...) // sorted
	return set.Encoded(attribute.DefaultEncoder())
}

// What failed, how, and whether it was tried again is counted and is in the trace; what was written, and where, is in neither.
func TestFailedAttemptsAreCountedAndTracedWithoutWhatWasWritten(t *testing.T) {
	// Not parallel: the counts are those of the process.
	const canary = "c4n4ry-7f1e"
	c := etcdtest.Shared(t)
	link := c.Link(0)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	defer func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) }()
	ctx, span := provider.Tracer("test").Start(t.Context(), "the caller's")

	p := retry.Policy{
		MaxAttempts: 3, Initial: time.Millisecond, AttemptTimeout: time.Second, ReadTimeout: time.Second, ConnectTimeout: soon,
		Breaker: &retry.Breaker{Failures: 100, Rate: -1}, Budget: &retry.Budget{},
	}
	cli := dial(t, p, link.Endpoint())
	key, value := canary+"/key", canary+"-value"
	mustPut(t, cli, key, value) // connects
	before, _ := attempts(t)
	var errs []error
	fails := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("a call did not fail")
		}
		errs = append(errs, err)
	}

	// Refused by a member, as often as it is asked; lost; refused for good, by etcd itself; lost in a black hole.
	cli.wire.Inject(etcdtest.Fault{Call: "Put", Times: 3, Err: rpctypes.ErrGRPCNoLeader})
	_, err := cli.Put(ctx, key, value)
	fails(err)
	cli.wire.Inject(etcdtest.Fault{Call: "Txn", Err: answer(codes.Internal)})
	_, err = cli.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), "=", value)).Then(clientv3.OpPut(key, value)).Commit()
	fails(err)
	_, err = cli.Put(ctx, key, value, clientv3.WithLease(12345))
	fails(err)
	want(t, "a put with a lease that does not exist", err, rpctypes.ErrLeaseNotFound)
	_, err = cli.Get(ctx, key, clientv3.WithRev(1<<60))
	fails(err)
	cli.wire.Inject(etcdtest.Fault{Call: "DeleteRange", Err: rpctypes.ErrGRPCNoLeader})
	if _, err := cli.Delete(ctx, key+"2"); err != nil {
		t.Errorf("a delete that was refused once: %v", err)
	}
	link.Blackhole(etcdtest.Both)
	_, err = cli.Put(ctx, key, value)
	fails(err)
	link.Heal()
	span.End()

	after, all := attempts(t)
	got := make(map[string]int64)
	for attrs, n := range after {
		if n -= before[attrs]; n > 0 {
			got[attrs] = n
		}
	}
	const final, again = ",etcdkit.retry.again=false,rpc.method=/etcdserverpb.KV/", ",etcdkit.retry.again=true,rpc.method=/etcdserverpb.KV/"
	for attrs, n := range map[string]int64{
		"error.type=etcdserver: no leader" + again + "Put":                                      2,
		"error.type=etcdserver: no leader" + final + "Put":                                      1,
		"error.type=Internal" + final + "Txn":                                                   1,
		"error.type=etcdserver: requested lease not found" + final + "Put":                      1,
		"error.type=etcdserver: mvcc: required revision is a future revision" + final + "Range": 1,
		"error.type=etcdserver: no leader" + again + "DeleteRange":                              1,
		"error.type=DeadlineExceeded" + final + "Put":                                           1,
	} {
		if got[attrs] != n {
			t.Errorf("%s: %d, want %d", attrs, got[attrs], n)
		}
		delete(got, attrs)
	}
	for attrs, n := range got {
		t.Errorf("and %d of %s", n, attrs)
	}

	var events []string
	for _, s := range spans.Ended() {
		for _, e := range s.Events() {
			events = append(events, e.Name+": "+text(e.Attributes))
		}
	}
	if len(events) != 8 {
		t.Errorf("%d events of 8 failed attempts:\n%s", len(events), strings.Join(events, "\n"))
	}
	if first := "attempt failed: error.type=etcdserver: no leader,etcdkit.retry.again=true,etcdkit.retry.attempt=1,etcdkit.retry.wait="; len(events) == 0 || !strings.HasPrefix(events[0], first) {
		t.Errorf("the first event of %v does not begin with %q", events, first)
	}

	said := fmt.Sprintf("%s\n%+v\n", all, spans.Ended()) + strings.Join(events, "\n")
	for _, err := range errs {
		said += fmt.Sprintf("\n%v\n%+v\n%#v", err, err, err)
	}
	if i := strings.Index(said, canary); i >= 0 {
		t.Errorf("what was written shows: %s", said[max(0, i-100):min(len(said), i+100)])
	}
}
