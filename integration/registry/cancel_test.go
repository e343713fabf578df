package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// stage is where an operation is cancelled: something has just been set up for it.
type stage struct {
	t      *testing.T
	cli    *clientv3.Client // whose calls are made to hang
	prefix string
	r      *registry.Registration // if the operation needs one
}

func newStage(t *testing.T, calls *etcdtest.Calls, registered bool) *stage {
	t.Helper()
	s := &stage{t: t, cli: etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()}), prefix: under(t)}
	if registered {
		s.r = register(t, s.cli, mail("a"), &registry.Options{Prefix: s.prefix, Session: short})
		calls.WaitCount(t, soon, "Txn", 2) // the key is followed: what else is sent is the operation's
		calls.WaitCount(t, soon, etcdtest.WatchProgress, 1)
	}
	return s
}

// operations are those that wait for etcd, other than Register, which has a test of its own. after is what must be so when a
// cancelled one has returned and etcd answers again.
var operations = map[string]struct {
	registered bool
	do         func(context.Context, *stage) error
	after      func(*testing.T, *stage)
}{
	"Watch": {false, func(ctx context.Context, s *stage) error {
		v, err := registry.Watch(ctx, s.cli, "mail", &registry.ViewOptions{Prefix: s.prefix})
		if err == nil {
			s.t.Cleanup(v.Close) // it was through before it was cancelled
		}
		return err
	}, func(t *testing.T, s *stage) {
		announce(t, etcdtest.Client(t), s.prefix+"/mail/b", "10.0.0.7:80")
		sees(t, soon, watch(t, s.cli, "mail", s.prefix), "b")
	}},
	"Update": {true, func(ctx context.Context, s *stage) error {
		return s.r.Update(ctx, func(i *registry.Instance) { i.Zone = "eu" })
	}, func(t *testing.T, s *stage) { // it stays wanted
		v := watch(t, etcdtest.Client(t), "mail", s.prefix)
		awaits(t, soon, v, "updated", func(got registry.Snapshot) bool { return len(got.Instances) == 1 && got.Instances[0].Zone == "eu" })
		healthy(t, soon, s.r)
	}},
	"Drain": {true, func(ctx context.Context, s *stage) error {
		return s.r.Drain(ctx, time.Minute)
	}, func(t *testing.T, s *stage) { // so does that
		v := watch(t, etcdtest.Client(t), "mail", s.prefix)
		awaits(t, soon, v, "draining", func(got registry.Snapshot) bool {
			return len(got.Instances) == 1 && got.Instances[0].State == registry.Draining
		})
		if err := s.r.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		etcdtest.WaitKeys(t, time.Second, etcdtest.Client(t), s.prefix+"/", 0)
	}},
	"Close": {true, func(ctx context.Context, s *stage) error {
		return s.r.Close(ctx)
	}, func(t *testing.T, s *stage) {
		etcdtest.WaitKeys(t, shortTTL+2*time.Second, etcdtest.Client(t), s.prefix+"/", 0)
		again := register(t, s.cli, mail("a"), &registry.Options{Prefix: s.prefix, Session: short})
		if err := again.Err(); err != nil {
			t.Errorf("registered again: %v", err)
		}
	}},
}

// F16: every call that an operation makes hangs in turn, lost on its way there or on its way back, and the operation is cancelled
// then. It returns promptly with the reason, leaves nothing behind, and the same client can do the same again.
func TestWhateverIsCancelledAtAnyCallReturnsPromptlyAndLeavesNothing(t *testing.T) { // not beside other tests: it takes times
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			var calls etcdtest.Calls
			s := newStage(t, &calls, op.registered)
			before := calls.Counts()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_ = op.do(ctx, s) // Drain waits for the end of ctx
			made := calls.Counts()
			for call, n := range before {
				if made[call] -= n; made[call] == 0 {
					delete(made, call)
				}
			}
			for _, upkeep := range []string{etcdtest.KeepAliveSend, etcdtest.KeepAliveAnswer, etcdtest.WatchProgress, "LeaseKeepAlive"} {
				delete(made, upkeep)
			}
			if name == "Drain" || name == "Update" {
				delete(made, etcdtest.WatchResponse) // of the key, which it does not wait for
			}
			t.Logf("%s makes %v", name, made)
			for _, call := range slices.Sorted(maps.Keys(made)) {
				for k := range made[call] {
					for _, after := range []bool{false, true} {
						if after && (call == etcdtest.WatchCreate || call == etcdtest.WatchResponse || call == etcdtest.WatchCancel || call == "Watch") {
							continue // which have no answer, or are one
						}
						t.Run(fmt.Sprintf("%s %d %v", call, k+1, map[bool]string{true: "carried out", false: "lost"}[after]), func(t *testing.T) {
							t.Parallel()
							cancelled(t, name, etcdtest.Fault{Call: call, Skip: k, Times: -1, Silent: true, After: after})
						})
					}
				}
			}
		})
	}
}

// cancelled cancels an operation when a fault has hit it.
func cancelled(t *testing.T, name string, f etcdtest.Fault) {
	op := operations[name]
	var calls etcdtest.Calls
	s := newStage(t, &calls, op.registered)
	hangs := calls.Inject(f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- op.do(ctx, s) }()
	select {
	case <-hangs.Hit():
		cancel()
		if err := etcdtest.Receive(t, promptly, name, ended); err != nil && !errors.Is(err, context.Canceled) && name != "Close" {
			t.Errorf("%s says %v", name, err)
		}
	case err := <-ended: // it did without, and is not cancelled
		t.Logf("%s returned before the call was made: %v", name, err)
		hangs.Remove()
		op.after(t, s)
		return
	case <-time.After(soon):
		t.Fatalf("%s neither makes the call nor returns", name)
	}
	hangs.Remove()
	if name == "Watch" {
		// Nobody follows anything any more, which would be read, or asked for its progress. clientv3 may be about to send that
		// the watch begins, and that it ends.
		calls.Quiet(t, 1500*time.Millisecond, "Watch", etcdtest.WatchCreate, etcdtest.WatchCancel)
	}
	op.after(t, s)
}
