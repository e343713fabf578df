package follow_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// awaited is an observer that closes a channel when it is live.
type awaited struct{ live chan struct{} }

func (awaited) Changed(follow.Change) {}
func (awaited) Stale(error)           {}
func (a awaited) Live() {
	select {
	case <-a.live:
	default:
		close(a.live)
	}
}

// opening attaches an observer until the test ends, and returns what opens it below a prefix.
func opening(t *testing.T, cli *clientv3.Client, prefix string) (
	f *follow.Follower, open func(ctx context.Context, older func(context.Context) bool) error,
) {
	t.Helper()
	obs := awaited{make(chan struct{})}
	f = follow.Attach(cli, follow.Prefix(prefix), obs)
	t.Cleanup(f.Close)
	return f, func(ctx context.Context, older func(context.Context) bool) error {
		return f.Open(ctx, obs.live, older)
	}
}

// never is a callback that must not be needed.
func never(t *testing.T) func(context.Context) bool {
	return func(context.Context) bool { t.Error("something older was looked for"); return false }
}

func TestOpeningReturnsOnceTheViewIsLive(t *testing.T) {
	t.Parallel()
	_, open := opening(t, etcdtest.Client(t), etcdtest.Prefix(t))
	if err := open(t.Context(), never(t)); err != nil {
		t.Error(err)
	}
	if err := open(t.Context(), nil); err != nil {
		t.Errorf("live already: %v", err)
	}
}

// What etcd refuses nothing older may stand for: the user was thrown out, and not cut off.
func TestOpeningIsRefusedAtOnceByWhatEtcdSays(t *testing.T) {
	t.Parallel()
	c, _ := guarded(t)
	_, open := opening(t, c.Dial(clientv3.Config{Username: "app", Password: "secret"}), "b/")
	etcdtest.Returns(t, 2*time.Second, "Open", func() {
		if err := open(t.Context(), never(t)); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("got %v", err)
		}
	})
}

// A member that has lost the others answers no linearizable read; what it knows can be had, and the view is live later.
func TestOpeningTurnsToASingleMemberWithoutAMajority(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.Link(0).Client()
	revision := put(t, c.Oracle(0), "a/1", "one")
	etcdtest.Eventually(t, soon, "the member has it", func(ctx context.Context) error {
		resp, err := cli.Get(ctx, "a/1", clientv3.WithSerializable())
		if err == nil && len(resp.Kvs) == 0 {
			err = errors.New("it does not")
		}
		return err
	})
	c.Stop(1, 2)
	f, open := opening(t, cli, "a/")
	var found []*follow.Entry
	var at int64
	began := time.Now()
	err := open(t.Context(), func(ctx context.Context) bool {
		var err error
		if found, at, err = f.Serializable(ctx); err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil || len(found) != 1 || string(found[0].Value) != "one" || at != revision {
		t.Errorf("%v, %v at %d", err, found, at)
	}
	if took := time.Since(began); took < 2*time.Second || took > 5*time.Second {
		t.Errorf("after %v", took)
	}
	keys := follow.Attach(cli, follow.Keys("a/1", "a/2"), awaited{make(chan struct{})})
	defer keys.Close()
	if found, at, err := keys.Serializable(t.Context()); err != nil || len(found) != 1 || at != revision {
		t.Errorf("of single keys: %v, %v at %d", err, found, at)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	asked := 0
	err = open(ctx, func(context.Context) bool { asked++; return false })
	if !errors.Is(err, context.DeadlineExceeded) || asked == 0 || asked > 2 {
		t.Errorf("with nothing older, which was looked for %d times: %v", asked, err)
	}
	c.Restart(1, 2)
	if err := open(t.Context(), nil); err != nil {
		t.Errorf("with a majority again: %v", err)
	}
}

func TestOpeningWithoutEtcdNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	link.Cut()
	cli := link.Client()
	_, open := opening(t, cli, "a/")
	asked := 0
	err := open(t.Context(), func(context.Context) bool { asked++; return false })
	if !errors.Is(err, call.ErrUnreachable) || !strings.Contains(err.Error(), cli.Endpoints()[0]) || asked == 0 {
		t.Errorf("older was looked for %d times: %v", asked, err)
	}
	if err := open(t.Context(), func(context.Context) bool { return true }); err != nil {
		t.Errorf("with something older: %v", err)
	}
	reason := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if err := open(ctx, never(t)); !errors.Is(err, reason) {
		t.Errorf("without time: %v", err)
	}
}
