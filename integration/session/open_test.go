package session_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func TestOptionsThatBreakARuleAreRefusedWithoutAskingEtcd(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t, etcdtest.Shared(t))
	for _, c := range []struct {
		opts session.Options
		rule string
	}{
		{session.Options{TTL: time.Second}, "minimum of 2s"},
		{session.Options{TTL: -time.Second}, "minimum of 2s"},
		{session.Options{TTL: math.MaxInt64}, "maximum"},
		{session.Options{TTL: 4 * time.Second, Margin: 2 * time.Second}, "half the TTL"},
		{session.Options{TTL: 4 * time.Second, Margin: -1}, "negative"},
	} {
		_, err := session.Open(t.Context(), cli, &c.opts)
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%+v: %v, want an error that names the rule: %s", c.opts, err, c.rule)
		}
		if valid := c.opts.Validate(); valid == nil || valid.Error() != err.Error() {
			t.Errorf("%+v: Validate says %v, Open %v", c.opts, valid, err)
		}
		_, err = session.NewKeeper(cli, &c.opts).Live(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%+v, keeper: %v, want an error that names the rule: %s", c.opts, err, c.rule)
		}
	}
	if n := calls.Sent(); n != 0 {
		t.Errorf("%d calls were made: %v", n, calls.Counts())
	}
}

func TestTheDefaultsAreTenSecondsAndATenthOfThat(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	for _, opts := range []*session.Options{nil, {}} {
		before := time.Now()
		s := open(t, cli, opts)
		if until := s.TrustedUntil(); until.Before(before.Add(8900*time.Millisecond)) || until.After(time.Now().Add(9*time.Second)) {
			t.Errorf("trusted for %v, want 9 s", until.Sub(before))
		}
		resp, err := cli.TimeToLive(t.Context(), s.Lease())
		if err != nil || resp.GrantedTTL != 10 {
			t.Errorf("TTL %d (%v), want 10", resp.GrantedTTL, err)
		}
	}
}

// The TTL that etcd grants may be larger than the one asked for: it is not trusted, lest a restart with other settings
// takes it back.
func TestALargerTTLThanAskedForIsNotTrusted(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{ElectionTicks: 400})
	link := c.Link(0)
	s := open(t, link.Client(), &session.Options{TTL: shortTTL})
	resp, err := c.Oracle(0).TimeToLive(t.Context(), s.Lease())
	if err != nil || resp.GrantedTTL < 4 {
		t.Fatalf("TTL %v (%v), want one of at least 4 s: the test is void", resp, err)
	}
	link.Blackhole(etcdtest.Both)
	etcdtest.Done(t, shortTTL, "the end of trust", s.Context().Done())
}

func TestWithoutEtcdTheErrorNamesTheEndpointsPromptly(t *testing.T) {
	t.Parallel()
	refusing, link := etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)
	refusing.Cut()
	link.Blackhole(etcdtest.Both)
	for what, c := range map[string]struct {
		endpoints []string
		patience  time.Duration // of the caller; none means the session's own
		within    time.Duration
		says      string
	}{
		"refused":               {[]string{refusing.Endpoint()}, 0, 2 * time.Second, "connection refused"},
		"refused, little time":  {[]string{refusing.Endpoint()}, 50 * time.Millisecond, time.Second, "connection refused"},
		"mute":                  {[]string{link.Endpoint()}, time.Second, 2 * time.Second, "does not answer"},
		"one refused, one mute": {[]string{refusing.Endpoint(), link.Endpoint()}, time.Second, 2 * time.Second, "connection refused"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cli := etcdtest.Dial(t, clientv3.Config{Endpoints: c.endpoints})
			ctx := t.Context()
			if c.patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.patience)
				defer cancel()
			}
			var err error
			etcdtest.Returns(t, c.within, "Open", func() { _, err = session.Open(ctx, cli, nil) })
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want an error that says %q", err, c.says)
			}
			for _, e := range c.endpoints {
				if !strings.Contains(err.Error(), e) {
					t.Errorf("%v: does not name %s", err, e)
				}
			}
		})
	}
}

func TestAMuteEndpointIsGivenUpAfterTenSeconds(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	link.Blackhole(etcdtest.Both)
	cli := link.Client()
	var err error
	took := etcdtest.Returns(t, 12*time.Second, "Open", func() { _, err = session.Open(t.Context(), cli, nil) })
	if err == nil || took < 5*time.Second {
		t.Errorf("gave up after %v with %v", took, err)
	}
}

// Defect L-grant: a grant whose reply is lost leaves one lease behind, which nobody renews.
func TestALostReplyToAGrantLeavesOneKeylessLeaseForATTL(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, calls := counted(t, c)
	const lost = 2
	calls.Inject(etcdtest.Fault{Call: "LeaseGrant", After: true, Times: lost})
	s := open(t, cli, &session.Options{TTL: shortTTL})
	if n := leases(t, c); n > lost+1 {
		t.Errorf("%d leases after %d lost replies, want at most one each and the session's", n, lost)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcdtest.Eventually(t, soon, "no lease is left", func(context.Context) error {
		if n := leases(t, c); n > 0 {
			return errors.New("some are left")
		}
		return nil
	})
}

func TestAGrantThatIsRefusedForGoodIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, calls := counted(t, c)
	denied := status.Error(codes.PermissionDenied, "etcdserver: permission denied")
	calls.Inject(etcdtest.Fault{Call: "LeaseGrant", Err: denied, Times: -1})
	if _, err := session.Open(t.Context(), cli, nil); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v, want permission denied", err)
	}
	if n := calls.Count("LeaseGrant"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	if n := leases(t, c); n != 0 {
		t.Errorf("%d leases", n)
	}
}

func TestOpenIsBoundedByItsContextAndTheSessionIsNot(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	cli := link.Client()
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := session.Open(ctx, cli, nil)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("waited long enough")
	cancel(enough)
	if s.Context().Err() != nil {
		t.Errorf("the session ended with the context it was opened with: %v", context.Cause(s.Context()))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	link.Blackhole(etcdtest.Both)
	ctx, cancel = context.WithCancelCause(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := session.Open(ctx, cli, nil)
		opened <- err
	}()
	etcdtest.Nothing(t, 50*time.Millisecond, "Open", opened)
	cancel(enough)
	if err := etcdtest.Receive(t, promptly, "Open", opened); !errors.Is(err, enough) {
		t.Errorf("cancelled: %v, want the cause", err)
	}
}

// A round trip of 800 ms takes more than the whole time of the first attempt.
func TestAFarEtcdIsOpenedAllTheSame(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	link.Delay(etcdtest.Both, 400*time.Millisecond, 400*time.Millisecond)
	open(t, link.Client(), &session.Options{TTL: time.Minute})
}
