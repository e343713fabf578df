package session_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

// ended waits for the end of a session and returns its cause.
func ended(t *testing.T, within time.Duration, s *session.Session) error {
	t.Helper()
	etcdtest.Done(t, within, "the end of the session", s.Context().Done())
	if s.Context().Err() == nil {
		t.Error("Err is nil after Done")
	}
	cause := context.Cause(s.Context())
	if !errors.Is(cause, fence.ErrLost) {
		t.Errorf("the cause is %v, which is not fence.ErrLost", cause)
	}
	if _, err := s.Live(t.Context()); !errors.Is(err, cause) {
		t.Errorf("Live returns %v, want the cause of the end: %v", err, cause)
	}
	return cause
}

func TestARevokedLeaseEndsTheSessionWithTheNextRenewal(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Client(t), &session.Options{TTL: 3 * time.Second})
	etcdtest.Shared(t).Revoke(s.Lease())
	cause := ended(t, 1500*time.Millisecond, s)
	if !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "revoked") {
		t.Errorf("the cause is %q, want session.ErrLost that says revoked", cause)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closing a session whose lease is gone: %v", err)
	}
}

func TestAProbeLearnsOfARevokedLeaseAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Client(t), &session.Options{TTL: time.Hour})
	etcdtest.Shared(t).Revoke(s.Lease())
	s.Probe()
	ended(t, time.Second, s)
}

func TestAnUnreachableEtcdEndsTheSessionBeforeTheTTLAndSaysSo(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(l *etcdtest.Link){
		"black hole":   func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
		"answers lost": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Responses) },
		"cut":          func(l *etcdtest.Link) { l.Cut() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.Shared(t)
			link := c.Link(0)
			s := open(t, link.Client(), &session.Options{TTL: 3 * time.Second})
			waitRenewed(t, s, time.Now().Add(3*time.Second)) // not with the grant, but with a renewal
			hurt(link)
			cause := ended(t, 3*time.Second, s)
			if !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "unreachable") {
				t.Errorf("the cause is %q, want session.ErrLost that says unreachable", cause)
			}
			resp, err := etcdtest.Client(t).TimeToLive(t.Context(), s.Lease())
			if err != nil || resp.TTL < 0 {
				t.Errorf("when trust ended the lease was gone already (%v, %v)", resp, err)
			}
		})
	}
}

func TestAnOutageWithinTheWindowIsSurvived(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	s := open(t, link.Client(), &session.Options{TTL: 4 * time.Second})
	waitRenewed(t, s, time.Now().Add(3700*time.Millisecond))
	link.Blackhole(etcdtest.Both)
	time.AfterFunc(2*time.Second, link.Heal) // how long the outage lasts, not what is waited for
	waitRenewed(t, s, time.Now().Add(8*time.Second))
}

func TestContextsDerivedFromTheSessionEndWithItsCause(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Client(t), nil)
	type key struct{}
	derived, cancel := context.WithTimeout(context.WithValue(s.Context(), key{}, 1), time.Hour)
	defer cancel()
	told := make(chan struct{})
	context.AfterFunc(derived, func() { close(told) })
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcdtest.Done(t, promptly, "telling a derived context", told)
	if cause := context.Cause(derived); !errors.Is(cause, session.ErrClosed) {
		t.Errorf("its cause is %v, want session.ErrClosed", cause)
	}
}

func TestCloseRevokesIsIdempotentAndWorksWithADoneContext(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for what, ctx := range map[string]context.Context{"live context": t.Context(), "done context": done} {
		t.Run(what, func(t *testing.T) {
			key := etcdtest.Prefix(t) + "key"
			s := open(t, cli, nil)
			if _, err := cli.Put(t.Context(), key, "", clientv3.WithLease(s.Lease())); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := s.Close(ctx); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
			}
			all.Wait()
			if cause := ended(t, 0+promptly, s); !errors.Is(cause, session.ErrClosed) || errors.Is(cause, session.ErrLost) {
				t.Errorf("the cause is %v, want session.ErrClosed", cause)
			}
			if resp, err := cli.Get(t.Context(), key); err != nil || resp.Count != 0 {
				t.Errorf("its key is left: %v, %v", resp, err)
			}
			if s.Go(func(context.Context) { t.Error("ran after Close") }) {
				t.Error("Go says that it runs something after Close")
			}
		})
	}
}

func TestCloseReturnsPromptlyThoughEtcdIsUnreachable(t *testing.T) {
	t.Parallel()
	link := etcdtest.Shared(t).Link(0)
	s := open(t, link.Client(), &session.Options{TTL: shortTTL})
	link.Blackhole(etcdtest.Both)
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	ended(t, promptly, s)
	etcdtest.Nothing(t, 10*time.Millisecond, "Close", closed)
	cancel()
	err := etcdtest.Receive(t, promptly, "Close", closed)
	if err == nil || !strings.Contains(err.Error(), "expires by itself") {
		t.Errorf("Close: %v, want an error that says that the lease expires by itself", err)
	}
	if again := s.Close(t.Context()); !errors.Is(again, err) {
		t.Errorf("a second Close: %v, want the first's result %v", again, err)
	}
	etcdtest.Eventually(t, soon, "the lease expires", func(ctx context.Context) error {
		resp, err := etcdtest.Client(t).TimeToLive(ctx, s.Lease())
		if err == nil && resp.TTL >= 0 {
			err = notYetError(resp.TTL)
		}
		return err
	})
}

func TestCloseWaitsForWhatGoStarted(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Client(t), nil)
	over := false
	if !s.Go(func(ctx context.Context) {
		<-ctx.Done()
		over = true
	}) {
		t.Fatal("Go ran nothing")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !over {
		t.Error("Close did not wait")
	}
}

// Defects W4 and F12 (etcd#14303, etcd#16028): a restored backup comes without any error.
func TestRestoredDataEndTheSession(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli, calls := counted(t, c)
	s := open(t, cli, &session.Options{TTL: 10 * time.Second})
	backup := c.Backup() // which has the lease
	for range 20 {
		if _, err := cli.Put(t.Context(), "later", ""); err != nil {
			t.Fatal(err)
		}
	}
	// A renewal that is sent from now on learns of the later revision.
	sent := calls.Count(etcdtest.KeepAliveSend)
	s.Probe()
	calls.WaitCount(t, soon, etcdtest.KeepAliveAnswer, sent+1)
	c.Restore(backup)
	cause := ended(t, soon, s)
	if !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "restored") {
		t.Errorf("the cause is %q, want one that says restored", cause)
	}
}

// What went away was written between two renewals; who wrote it has told the session.
func TestRestoredDataEndTheSessionThatSawMoreThanItsRenewals(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	s := open(t, link.Client(), &session.Options{TTL: 20 * time.Second})
	backup := c.Backup() // which has the lease
	link.Cut()
	for range 20 {
		resp, err := c.Client().Put(t.Context(), "later", "")
		if err != nil {
			t.Fatal(err)
		}
		s.Saw(resp.Header.Revision)
	}
	s.Saw(0) // older news change nothing
	c.Restore(backup)
	link.Heal()
	s.Probe()
	cause := ended(t, 15*time.Second, s)
	if !errors.Is(cause, session.ErrLost) || !strings.Contains(cause.Error(), "restored") {
		t.Errorf("the cause is %q, want one that says restored", cause)
	}
}
