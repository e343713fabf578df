package etcdtest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func counted(t *testing.T) (*etcdtest.Calls, *clientv3.Client) {
	t.Helper()
	calls := &etcdtest.Calls{}
	return calls, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
}

func exists(t *testing.T, key string) bool {
	t.Helper()
	resp, err := etcdtest.Client(t).Get(t.Context(), key, clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return resp.Count > 0
}

func TestCallsFailBeforeOrAfterTheCommit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		after     bool
		committed bool
	}{{"before", false, false}, {"after", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			calls, cli := counted(t)
			key := etcdtest.Prefix(t)
			fault := calls.Inject(etcdtest.Fault{Call: "Put", After: test.after})
			_, err := cli.Put(t.Context(), key+"1", "")
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the first Put: %v, want Unavailable", err)
			}
			if got := exists(t, key+"1"); got != test.committed {
				t.Errorf("the key exists: %t", got)
			}
			if _, err := cli.Put(t.Context(), key+"2", ""); err != nil {
				t.Errorf("the second Put: %v", err)
			}
			if calls.Count("Put") != 2 || fault.Hits() != 1 {
				t.Errorf("%d Puts, %d hits", calls.Count("Put"), fault.Hits())
			}
			etcdtest.Done(t, soon, "the fault", fault.Hit())
		})
	}
}

// etcd#18424: clientv3 itself sends a mutable call again, up to a hundred times, that was answered by wire
// Canceled. Calls sits below that and sees every one.
func TestCallsSeeTheRetriesOfTheClient(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	calls.Inject(etcdtest.Fault{Call: "Range", Times: 3})
	if _, err := cli.Get(t.Context(), etcdtest.Prefix(t)); err != nil {
		t.Errorf("a Get that clientv3 may repeat: %v", err)
	}
	if got := calls.Count("Range"); got != 4 {
		t.Errorf("%d attempts, want 4", got)
	}
}

func TestCallsSelectByRequestCodeAndNumber(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	prefix := etcdtest.Prefix(t)
	fault := calls.Inject(etcdtest.Fault{
		Call:  "Put",
		Match: func(m any) bool { return string(m.(*etcdserverpb.PutRequest).Key) == prefix+"bad" },
		Skip:  1,
		Times: -1,
		Err:   rpctypes.ErrGRPCNoSpace,
	})
	put := func(key string) error {
		_, err := cli.Put(t.Context(), prefix+key, "")
		return err
	}
	if err := errors.Join(put("good"), put("bad"), put("good")); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := put("bad"); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("got %v, want ErrNoSpace", err)
		}
	}
	fault.Remove()
	if err := put("bad"); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}

func TestCallsHoldAndSilence(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	key := etcdtest.Prefix(t)
	release := make(chan struct{})
	held := calls.Inject(etcdtest.Fault{Call: "Put", After: true, Hold: release})
	answer := make(chan error, 1)
	go func() {
		_, err := cli.Put(t.Context(), key, "")
		answer <- err
	}()
	etcdtest.Done(t, soon, "Put is carried out", held.Hit())
	if !exists(t, key) {
		t.Error("it is not")
	}
	etcdtest.Nothing(t, 20*time.Millisecond, "the held answer", answer)
	close(release)
	if err := etcdtest.Receive(t, soon, "the answer", answer); err != nil {
		t.Error(err)
	}

	calls.Inject(etcdtest.Fault{Call: "Put", Silent: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := cli.Put(ctx, key, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent call: %v", err)
	}
}

func TestCallsCountTheMessagesOfStreams(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	key := etcdtest.Prefix(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := cli.Watch(ctx, key, clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the created notice", events)
	if err := cli.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	etcdtest.Receive(t, soon, "the progress notice", events)
	lease, err := cli.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"Watch": 1, etcdtest.WatchCreate: 1, etcdtest.WatchProgress: 1, etcdtest.WatchResponse: 2,
		"LeaseGrant": 1, "LeaseKeepAlive": 1, etcdtest.KeepAliveSend: 1, etcdtest.KeepAliveAnswer: 1,
	} {
		if got := calls.Count(name); got != want {
			t.Errorf("%d of %s, want %d", got, name, want)
		}
	}
	if got := calls.Sent(); got != 6 {
		t.Errorf("%d sent, want 6: %v", got, calls.Counts())
	}

	calls.Quiet(t, 20*time.Millisecond)
	// Cancelling the last watch of a stream closes the stream instead.
	second, cancelSecond := context.WithCancel(ctx)
	etcdtest.Receive(t, soon, "the created notice", cli.Watch(second, key, clientv3.WithCreatedNotify()))
	cancelSecond()
	calls.WaitCount(t, soon, etcdtest.WatchCancel, 1)
	calls.Reset()
	if got := calls.Sent(); got != 0 {
		t.Errorf("%d sent after Reset", got)
	}
}

func TestCallsAreNotQuietWhileSomethingIsSent(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ctx.Err() == nil {
			_, _ = cli.Get(ctx, "a") // until it is cancelled
		}
	}()
	calls.WaitCount(t, soon, "Range", 1)
	calls.Quiet(t, 20*time.Millisecond, "Range")
	if said := failure(t, func(fake testing.TB) { calls.Quiet(fake, soon, "Put") }); !strings.Contains(said, "Range:") {
		t.Errorf("Quiet said %q", said)
	}
	cancel()
	etcdtest.Done(t, soon, "the last Get", stopped)
}

func TestCallsLoseAndBreakStreams(t *testing.T) {
	t.Parallel()
	calls, cli := counted(t)
	lease, err := cli.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	// A lost question and a lost answer: nothing comes, and no error either.
	for _, lost := range []string{etcdtest.KeepAliveSend, etcdtest.KeepAliveAnswer} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		calls.Inject(etcdtest.Fault{Call: lost, Silent: true})
		_, err := cli.KeepAliveOnce(ctx, lease.ID)
		if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s lost: %v", lost, err)
		}
		cancel()
	}
	// A refused stream, one broken by its question and one broken by its answer.
	for bad, want := range map[string]error{
		"LeaseKeepAlive":         rpctypes.ErrLeaseNotFound,
		etcdtest.KeepAliveSend:   io.EOF, // all that gRPC tells a sender, and clientv3 hands it on
		etcdtest.KeepAliveAnswer: rpctypes.ErrLeaseNotFound,
	} {
		broken := calls.Inject(etcdtest.Fault{Call: bad, Err: rpctypes.ErrGRPCLeaseNotFound})
		if _, err := cli.KeepAliveOnce(t.Context(), lease.ID); !errors.Is(err, want) {
			t.Errorf("%s broken: %v, want %v", bad, err, want)
		}
		etcdtest.Done(t, soon, bad, broken.Hit())
	}
	if _, err := cli.KeepAliveOnce(t.Context(), lease.ID); err != nil {
		t.Errorf("after all: %v", err)
	}

	// clientv3 opens a broken watch again, and nobody notices.
	key := etcdtest.Prefix(t)
	calls.Reset()
	events := cli.Watch(t.Context(), key, clientv3.WithCreatedNotify())
	etcdtest.Receive(t, soon, "the created notice", events)
	broken := calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse})
	if _, err := cli.Put(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	etcdtest.Done(t, soon, "the watch breaks", broken.Hit())
	etcdtest.Receive(t, soon, "the event", events)
	if got := calls.Count(etcdtest.WatchCreate); got != 2 {
		t.Errorf("%d watches created, want 2", got)
	}
}
