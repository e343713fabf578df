package config_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// promptly is the bound of everything that was cancelled.
const promptly = 250 * time.Millisecond

// stage is where an Open is cancelled.
type stage struct {
	t    *testing.T
	cli  *clientv3.Client // whose calls are made to hang
	key  string
	opts *config.Options[int]
}

// openings are the kinds of Open.
var openings = map[string]func(*stage){
	"of a document": func(s *stage) { put(s.t, etcdtest.Client(s.t), s.key, "1") },
	"of nothing":    func(*stage) {},
	"of an instance": func(s *stage) {
		s.opts = canaries("a", "canary")
		s.opts.CacheDir = s.t.TempDir()
	},
	"of an instance that refuses": func(s *stage) {
		s.opts = canaries("a", "canary")
		put(s.t, etcdtest.Client(s.t), s.key, "-1")
	},
}

func newStage(t *testing.T, calls *etcdtest.Calls, kind string) *stage {
	t.Helper()
	s := &stage{t: t, cli: etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), key: etcdtest.Prefix(t) + "rate"}
	openings[kind](s)
	return s
}

func (s *stage) open(ctx context.Context) error {
	v, err := config.Open(ctx, s.cli, s.key, s.opts)
	if err == nil {
		s.t.Cleanup(v.Close) // it was through before it was cancelled
	}
	return err
}

// F16: every call that Open makes hangs in turn, lost on its way there or on its way back, and Open is cancelled then. It returns
// promptly with the reason, leaves nothing behind, and through the same client the same can be opened again.
func TestAnOpenThatIsCancelledAtAnyCallReturnsPromptlyAndLeavesNothing(t *testing.T) { // not beside other tests: it takes times
	for kind := range openings {
		t.Run(kind, func(t *testing.T) {
			var calls etcdtest.Calls
			s := newStage(t, &calls, kind)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_ = s.open(ctx) // some wait for the end of ctx
			made := calls.Counts()
			for _, upkeep := range []string{etcdtest.KeepAliveAnswer, etcdtest.WatchProgress, etcdtest.WatchCancel} {
				delete(made, upkeep)
			}
			t.Logf("Open %s makes %v", kind, made)
			for _, call := range slices.Sorted(maps.Keys(made)) {
				for k := range made[call] {
					for _, after := range []bool{false, true} {
						if after && (call == etcdtest.WatchCreate || call == etcdtest.WatchResponse || call == "Watch" || call == etcdtest.KeepAliveSend) {
							continue // which have no answer, or are one
						}
						t.Run(fmt.Sprintf("%s %d %v", call, k+1, map[bool]string{true: "carried out", false: "lost"}[after]), func(t *testing.T) {
							t.Parallel()
							cancelled(t, kind, etcdtest.Fault{Call: call, Skip: k, Times: -1, Silent: true, After: after})
						})
					}
				}
			}
		})
	}
}

// cancelled cancels an Open when a fault has hit it.
func cancelled(t *testing.T, kind string, f etcdtest.Fault) {
	var calls etcdtest.Calls
	s := newStage(t, &calls, kind)
	hangs := calls.Inject(f)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the operator lost patience")
	ended := make(chan error, 1)
	go func() { ended <- s.open(ctx) }()
	select {
	case <-hangs.Hit():
	case <-time.After(time.Second): // it is made by who gives something back
	case err := <-ended: // Open did without
		ended <- err
	}
	cancel(reason)
	err := etcdtest.Receive(t, promptly, "Open", ended)
	if err != nil && !errors.Is(err, reason) && !errors.Is(err, config.ErrRefused) {
		t.Errorf("Open says %v", err)
	}
	hangs.Remove()
	if err != nil {
		// A lease that could not be given back takes the report with it.
		etcdtest.WaitKeys(t, 5*time.Second, etcdtest.Client(t), beside(s.key), 0)
	}
	revision := put(t, etcdtest.Client(t), s.key, "7")
	again := open(t, s.cli, s.key, s.opts)
	if again.Get() != 7 || again.Err() != nil {
		t.Errorf("opened again: %d, %v", again.Get(), again.Err())
	}
	if s.opts != nil {
		reported(t, etcdtest.Client(t), s.key, "a", "the newest", applies(revision, ""))
	}
}
