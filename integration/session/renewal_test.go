package session_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// Defects P5 and L1: counted from the receipt of an answer that took its time, trust lasts longer than the lease.
func TestTrustIsCountedFromTheSendingOfARenewal(t *testing.T) {
	t.Parallel()
	const late, most = 600 * time.Millisecond, 1800 * time.Millisecond
	link := etcdtest.Shared(t).Link(0)
	var calls etcdtest.Calls
	cli := link.Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	s := open(t, cli, &session.Options{TTL: shortTTL, Margin: shortTTL - most})
	calls.WaitCount(t, soon, etcdtest.KeepAliveAnswer, 1)
	link.Delay(etcdtest.Responses, late, late)
	// Answers that are on their way are not late yet.
	for n := calls.Count(etcdtest.KeepAliveAnswer) + 3; calls.Count(etcdtest.KeepAliveAnswer) < n; {
		calls.WaitCount(t, soon, etcdtest.KeepAliveAnswer, calls.Count(etcdtest.KeepAliveAnswer)+1)
	}
	before := s.TrustedUntil()
	for range 4 {
		etcdtest.Eventually(t, soon, "another renewal", func(context.Context) error {
			now := s.TrustedUntil()
			if left := time.Until(now); left > most-late {
				t.Errorf("trusted for %v more, but the answer was %v under way: at most %v", left, late, most-late)
			}
			if now.Sub(before) < 10*time.Millisecond {
				return notYetError(0)
			}
			before = now
			return nil
		})
	}
	if err := s.Context().Err(); err != nil {
		t.Errorf("the session ended: %v", context.Cause(s.Context()))
	}
}

// Spaced from answers instead of from sendings, the renewals of a 5 s lease come too late at this latency.
func TestALeaseOfFiveSecondsSurvivesALatencyOfOneAndAHalf(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	s := open(t, link.Client(), &session.Options{TTL: 5 * time.Second})
	link.Delay(etcdtest.Both, 750*time.Millisecond, 750*time.Millisecond)
	waitRenewed(t, s, time.Now().Add(11*time.Second))
}

// Defect B1 (etcd#10816, etcd#8660): gRPC goes on giving calls to an endpoint that hangs.
func TestASessionSurvivesBesideAHungEndpoint(t *testing.T) {
	t.Parallel()
	for _, hung := range []int{0, 1} {
		t.Run([]string{"first", "second"}[hung], func(t *testing.T) {
			t.Parallel()
			links := etcdtest.Links{etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)}
			s := open(t, links.Client(), &session.Options{TTL: 5 * time.Second})
			links[hung].Blackhole(etcdtest.Both)
			waitRenewed(t, s, time.Now().Add(12*time.Second))
		})
	}
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		links := etcdtest.Links{etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)}
		cli := links.Client()
		s, err := concurrency.NewSession(cli, concurrency.WithTTL(5))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Orphan()
		// Its one stream is on one of the two.
		calm := []int64{links[0].Passed(etcdtest.Both), links[1].Passed(etcdtest.Both)}
		hung := 0
		if calm[1] > calm[0] {
			hung = 1
		}
		links[hung].Blackhole(etcdtest.Both)
		select {
		case <-s.Done():
			t.Log("concurrency.Session of 5 s, one of two endpoints hangs: lost")
		case <-time.After(8 * time.Second):
			t.Log("concurrency.Session of 5 s, one of two endpoints hangs: still there after 8 s")
		}
	})
}

// gRPC takes the endpoints in turn for all calls of a client together. With two calls beside each renewal, of three endpoints every
// renewal meets the same one.
func TestRenewalsThatMeetAHungEndpointEachTimeHaveCompany(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Shared(t)
	links := etcdtest.Links{cluster.Link(0), cluster.Link(0), cluster.Link(0)}
	var beside sync.WaitGroup
	var cli *clientv3.Client
	renewals := make(chan struct{}, 99)
	var met atomic.Value // the endpoint that the last renewal was sent to
	cli = links.Dial(clientv3.Config{DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if !strings.HasSuffix(method, "LeaseKeepAlive") {
				return streamer(ctx, desc, cc, method, opts...)
			}
			renewals <- struct{}{}
			to := new(peer.Peer)
			return streamer(ctx, desc, cc, method, append(opts, grpc.Peer(to), grpc.OnFinish(func(err error) {
				if err == nil || to.Addr != nil {
					met.Store(to.Addr.String())
				}
			}))...)
		},
	)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); beside.Wait() }()
	s := open(t, cli, &session.Options{TTL: 5 * time.Second})
	beside.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-renewals:
			}
			for empty := false; !empty; { // those that came together count once
				select {
				case <-renewals:
				case <-time.After(20 * time.Millisecond):
					empty = true
				}
			}
			for range 2 {
				beside.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
					defer cancel()
					_, _ = cli.Get(ctx, "beside") // may meet the endpoint that hangs
				})
			}
		}
	})
	waitRenewed(t, s, time.Now().Add(6*time.Second)) // once, so that the turns are in step
	for _, l := range links {
		if strings.HasSuffix(l.Endpoint(), met.Load().(string)) {
			l.Blackhole(etcdtest.Both)
			waitRenewed(t, s, time.Now().Add(12*time.Second))
			return
		}
	}
	t.Fatalf("renewals go to %v", met.Load())
}

func TestAnIdleSessionCostsAboutThreeRenewalsATTL(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t, etcdtest.Shared(t))
	s := open(t, cli, &session.Options{TTL: 3 * time.Second})
	calls.Quiet(t, 3*time.Second, "LeaseKeepAlive", etcdtest.KeepAliveSend)
	if n := calls.Count(etcdtest.KeepAliveSend); n < 3 || n > 4 {
		t.Errorf("%d renewals in one TTL, want 3 or 4", n)
	}
	if s.Context().Err() != nil {
		t.Error(context.Cause(s.Context()))
	}
}

// Defect L4 (etcd#9911): a keepalive without an answer was sent again every half second for ever.
func TestWithoutAnAnswerRenewalsDoNotStorm(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(l *etcdtest.Link){
		"black hole": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"cut":        func(l *etcdtest.Link) { l.Cut() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := etcdtest.Shared(t).Link(0)
			var calls etcdtest.Calls
			s := open(t, link.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), &session.Options{TTL: 6 * time.Second})
			calls.Reset()
			hurt(link)
			etcdtest.Done(t, 6*time.Second, "the end of trust", s.Context().Done())
			sent, opened := calls.Count(etcdtest.KeepAliveSend), calls.Count("LeaseKeepAlive")
			t.Logf("%d renewals sent, %d streams opened", sent, opened)
			if max(sent, opened) > 6 {
				t.Errorf("%d renewals and %d streams in a TTL of 6 s without an answer", sent, opened)
			}
		})
	}
}
