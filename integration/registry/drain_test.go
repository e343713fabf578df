package registry_test

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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// stateOf is the state that a key's value tells, "ready" if none, and "gone" for a deletion.
func stateOf(ev *clientv3.Event) string {
	for _, state := range []string{"draining", "starting"} {
		if strings.Contains(string(ev.Kv.Value), `"State":"`+state+`"`) {
			return state
		}
	}
	if ev.Type == clientv3.EventTypeDelete {
		return "gone"
	}
	return "ready"
}

// steps are the states that a test's keys went through, from the beginning.
func steps(t *testing.T, cli *clientv3.Client, prefix string) []string {
	t.Helper()
	var all []string
	for _, ev := range history(t, cli, prefix+"/", 0) {
		if !strings.HasSuffix(string(ev.Kv.Key), "\xff") { // the end of a history that was read before
			all = append(all, stateOf(ev))
		}
	}
	return all
}

// puts and deletes tell a registration's transactions apart.
func puts(request any) bool {
	ops := request.(*pb.TxnRequest).Success
	return len(ops) > 0 && ops[0].GetRequestPut() != nil
}

func deletes(request any) bool {
	ops := request.(*pb.TxnRequest).Success
	return len(ops) > 0 && ops[0].GetRequestDeleteRange() != nil
}

func TestDrainReturnsWhenReadersHaveHadTheirTime(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	v := watch(t, etcdtest.Client(t), "mail", prefix)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	const wait = 300 * time.Millisecond
	started := time.Now()
	if err := r.Drain(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < wait {
		t.Errorf("drained within %v, readers were to have %v", took, wait)
	}
	awaits(t, promptly, v, "draining", func(s registry.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].State == registry.Draining && s.Revision >= r.Revision()
	})
	if err := r.Err(); err != nil {
		t.Errorf("draining as asked for, and yet: %v", err)
	}
	// It is Draining until it is told otherwise in so many words.
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" }); err != nil {
		t.Error(err)
	}
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, cli, prefix+"/mail/a").Lease))
	etcdtest.WaitKey(t, repaired, cli, prefix+"/mail/a")
	healthy(t, repaired, r)
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.State = registry.Ready }); err != nil {
		t.Error(err)
	}
	want := []string{"ready", "draining", "draining", "gone", "draining", "ready"}
	if got := steps(t, cli, prefix); !slices.Equal(got, want) {
		t.Errorf("it was %v, want %v", got, want)
	}
}

func TestDrainWithoutAWaitReturnsWhenEtcdHasIt(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	if err := r.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got, want := steps(t, cli, prefix), []string{"ready", "draining"}; !slices.Equal(got, want) {
		t.Errorf("it was %v, want %v", got, want)
	}
}

func TestANegativeWaitIsRefusedAndNothingDrained(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	if err := r.Drain(t.Context(), -time.Second); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("got %v", err)
	}
	if got := steps(t, cli, prefix); !slices.Equal(got, []string{"ready"}) {
		t.Errorf("it was %v", got)
	}
}

func TestADrainThatIsCutShortSaysWhyAndTheInstanceStaysDraining(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	why := errors.New("enough")
	for what, during := range map[string]struct {
		hurt   func(*etcdtest.Link, *registry.Registration)
		reason error
	}{
		"while readers are waited for": {func(*etcdtest.Link, *registry.Registration) {}, why},
		"while etcd does not answer":   {func(l *etcdtest.Link, _ *registry.Registration) { l.Blackhole(etcdtest.Both) }, why},
		"by Close": {func(_ *etcdtest.Link, r *registry.Registration) {
			time.AfterFunc(50*time.Millisecond, func() { _ = r.Close(t.Context()) }) // when readers are waited for
		}, registry.ErrClosed},
	} {
		t.Run(what, func(t *testing.T) {
			link, prefix := c.Link(0), under(t)
			r := register(t, link.Client(), mail("a"), &registry.Options{Prefix: prefix})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var err error
			etcdtest.Returns(t, 100*time.Millisecond+promptly, "Drain", func() {
				time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
				during.hurt(link, r)
				err = r.Drain(ctx, time.Minute)
			})
			if !errors.Is(err, during.reason) {
				t.Errorf("got %v, want %v", err, during.reason)
			}
			link.Drop() // what was sent is lost
			link.Heal()
			if errors.Is(err, registry.ErrClosed) {
				return
			}
			v := watch(t, c.Client(), "mail", prefix)
			awaits(t, soon, v, "draining", func(s registry.Snapshot) bool {
				return len(s.Instances) == 1 && s.Instances[0].State == registry.Draining
			})
		})
	}
}

// Readers tell an instance that has left from one that has died by the last state it had.
func TestCloseSaysThatTheInstanceIsDrainingBeforeItGoes(t *testing.T) {
	t.Parallel()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for what, c := range map[string]struct {
		ctx       context.Context
		neighbour bool // on the same lease
		before    func(*testing.T, *registry.Registration)
		fault     *etcdtest.Fault
		want      []string
	}{
		"alone":                   {ctx: t.Context(), want: []string{"ready", "draining", "gone"}},
		"beside another":          {ctx: t.Context(), neighbour: true, want: []string{"ready", "draining", "gone"}},
		"with a ctx that is done": {ctx: done, neighbour: true, want: []string{"ready", "draining", "gone"}},
		"already draining": {ctx: t.Context(), neighbour: true, before: func(t *testing.T, r *registry.Registration) {
			if err := r.Drain(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}, want: []string{"ready", "draining", "gone"}},
		"refused": {
			ctx: t.Context(), neighbour: true, want: []string{"ready", "gone"},
			fault: &etcdtest.Fault{Call: "Txn", Match: puts, Times: -1, Err: status.Error(codes.PermissionDenied, "etcdserver: permission denied")},
		},
		"not answered": {
			ctx: t.Context(), neighbour: true, want: []string{"ready", "gone"},
			fault: &etcdtest.Fault{Call: "Txn", Match: puts, Times: -1, Silent: true},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var calls etcdtest.Calls
			cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			prefix := under(t)
			if c.neighbour {
				register(t, cli, mail("b"), &registry.Options{Prefix: prefix + "2"})
			}
			r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
			if c.before != nil {
				c.before(t, r)
			}
			if c.fault != nil {
				calls.Inject(*c.fault)
			}
			var err error
			etcdtest.Returns(t, time.Second, "Close", func() { err = r.Close(c.ctx) })
			if err != nil {
				t.Error(err)
			}
			if got := steps(t, etcdtest.Client(t), prefix); !slices.Equal(got, c.want) {
				t.Errorf("it was %v, want %v", got, c.want)
			}
		})
	}
}

// F13: nothing that puts may be in the way of leaving, also where the lease must stay for others.
func TestAFullDatabaseKeepsNobodyFromLeaving(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli := c.Client()
	stays := register(t, cli, mail("a"), nil)
	leaves := register(t, cli, mail("b"), nil)
	hidden := register(t, cli, mail("c"), &registry.Options{HideUnready: true})
	c.FillUp()
	if err := leaves.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := hidden.Drain(t.Context(), 0); err != nil {
		t.Error(err)
	}
	etcdtest.WaitKeys(t, time.Second, cli, "services/", 1)
	if err := stays.Err(); err != nil {
		t.Error(err)
	}
	if err := stays.Close(t.Context()); err != nil {
		t.Error(err)
	}
	etcdtest.WaitKeys(t, time.Second, cli, "services/", 0)
}

// Readers that still have the old address need their time also if another process has the ID by now.
func TestADrainThatComesAfterAnotherHasTheIDWaitsAllTheSame(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	opts := &registry.Options{Prefix: prefix}
	old := register(t, cli, mail("a"), opts)
	register(t, etcdtest.Client(t), mail("a"), opts)
	etcdtest.Eventually(t, soon, "replaced", func(context.Context) error {
		if !errors.Is(old.Err(), registry.ErrReplaced) {
			return fmt.Errorf("it says: %w", old.Err())
		}
		return nil
	})
	began := time.Now()
	err := old.Drain(t.Context(), 300*time.Millisecond)
	if took := time.Since(began); !errors.Is(err, registry.ErrReplaced) || took < 300*time.Millisecond {
		t.Errorf("after %v: %v", took, err)
	}
}
