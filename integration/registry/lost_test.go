package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// F24, defect C4: a write whose reply is lost is resolved and never guessed: one key, with the right value.
func TestALostReplyLeavesOneKeyWithTheRightValue(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.Unknown, codes.Internal} {
		for call, steps := range map[string]string{
			"LeaseGrant":  "register repair",
			"Txn":         "register update repair",
			"LeaseRevoke": "close",
		} {
			t.Run(call+" "+code.String(), func(t *testing.T) {
				t.Parallel()
				loseReplies(t, call, code, steps)
			})
		}
	}
}

// loseReplies loses the reply to the first of a kind of calls in each of the steps of a registration's life that make one.
func loseReplies(t *testing.T, call string, code codes.Code, steps string) {
	var calls etcdtest.Calls
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	key := prefix + "/mail/a"
	losing := func(step string, do func()) {
		t.Helper()
		if !strings.Contains(steps, step) {
			do()
			return
		}
		f := calls.Inject(etcdtest.Fault{Call: call, After: true, Err: status.Error(code, "lost on its way")})
		do() // which may end before the reply is lost: the registration follows its key and sees what came of the write
		etcdtest.Done(t, soon, "the losing of a reply, "+step, f.Hit())
		f.Remove()
	}
	has := func(step, zone string, version int64) {
		t.Helper()
		kv := etcdtest.WaitKeys(t, soon, cli, prefix+"/", 1).Kvs[0]
		if string(kv.Key) != key || !strings.Contains(string(kv.Value), zone) || kv.Version != version {
			t.Errorf("after %s etcd has %v, want zone %q written %d times", step, kv, zone, version)
		}
	}

	var r *registry.Registration
	losing("register", func() { r = register(t, cli, mail("a"), &registry.Options{Prefix: prefix}) })
	has("register", "", 1)
	losing("update", func() {
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone = "eu" }); err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	has("update", "eu", 2)
	if at := get(t, cli, key).ModRevision; at != r.Revision() {
		t.Errorf("written at revision %d, and Revision is %d", at, r.Revision())
	}
	losing("repair", func() {
		etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, cli, key).Lease))
		etcdtest.WaitKey(t, soon, cli, key)
		healthy(t, soon, r)
	})
	has("repair", "eu", 1)
	losing("close", func() {
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	etcdtest.WaitKeys(t, soon, cli, prefix+"/", 0)
}

// A request that was sent and given up may arrive at any later time. So everything a registration has ever sent is
// sent again, in the middle and at the end: none of it may change anything.
func TestRequestsThatArriveLateChangeNothing(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		sent []*pb.TxnRequest
	)
	var calls etcdtest.Calls
	calls.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Match: func(request any) bool {
		if r := request.(*pb.TxnRequest); len(r.Compare) > 0 { // else the follower's read
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, proto.Clone(r).(*pb.TxnRequest))
		}
		return false
	}})
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := under(t)
	key := prefix + "/mail/a"
	other := etcdtest.Client(t)
	again := func() {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		before := get(t, other, key)
		for _, request := range sent {
			// One that puts under a lease that is gone is refused with an error.
			resp, err := pb.NewKVClient(other.ActiveConnection()).Txn(t.Context(), request)
			if err == nil && resp.Succeeded {
				t.Errorf("applied once more: %v", request)
			}
		}
		if after := get(t, other, key); !proto.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
	}

	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	again()
	for _, zone := range []string{"eu", "us", "eu"} {
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.Zone = zone }); err != nil {
			t.Fatal(err)
		}
		again()
	}
	etcdtest.Shared(t).Revoke(clientv3.LeaseID(get(t, other, key).Lease))
	etcdtest.WaitKey(t, repaired, other, key)
	healthy(t, repaired, r)
	again()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again()
	if n := len(sent); n < 5 {
		t.Errorf("only %d requests were seen", n)
	}
}

// F16: whatever Register is waiting for, cancelling it ends the wait and leaves nothing behind.
func TestARegisterThatIsCancelledLeavesNothingBehind(t *testing.T) { // not beside other tests: it takes times
	for _, c := range []struct {
		call  string
		after bool
	}{{"LeaseGrant", false}, {"LeaseGrant", true}, {"Txn", false}, {"Txn", true}} {
		t.Run(c.call+map[bool]string{true: " carried out", false: " lost"}[c.after], func(t *testing.T) {
			t.Parallel()
			var calls etcdtest.Calls
			cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
			prefix := under(t)
			silent := calls.Inject(etcdtest.Fault{Call: c.call, After: c.after, Silent: true, Times: -1})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := registry.Register(ctx, cli, mail("a"), &registry.Options{Prefix: prefix})
				ended <- err
			}()
			etcdtest.Done(t, soon, "the call is under way", silent.Hit())
			cancel()
			if err := etcdtest.Receive(t, promptly, "Register", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			etcdtest.WaitKeys(t, time.Second, etcdtest.Client(t), prefix+"/", 0)
		})
	}
}

// Defect C9: cleaning up hangs when etcd does not answer. Close returns in time, whatever the registration is
// in the middle of, and the lease does the rest.
func TestCloseReturnsPromptlyThoughEtcdDoesNotAnswer(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	for what, meanwhile := range map[string]func(*etcdtest.Link, *registry.Registration){
		"announced": func(*etcdtest.Link, *registry.Registration) {},
		"updating": func(_ *etcdtest.Link, r *registry.Registration) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = r.Update(ctx, func(i *registry.Instance) { i.Zone = "eu" }) // goes on
		},
		"lost": func(_ *etcdtest.Link, r *registry.Registration) {
			etcdtest.Eventually(t, soon, "the session is lost", func(context.Context) error {
				if r.Err() == nil {
					return errors.New("not yet")
				}
				return nil
			})
		},
	} {
		for how, cut := range map[string]func(*etcdtest.Link){
			"black hole": func(l *etcdtest.Link) { l.Blackhole(etcdtest.Both) },
			"refused":    (*etcdtest.Link).Cut,
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				link := c.Link(0)
				prefix := under(t)
				r := register(t, link.Client(), mail("a"), &registry.Options{Prefix: prefix, Session: short})
				cut(link)
				meanwhile(link, r)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				var err error
				took := etcdtest.Returns(t, promptly, "Close", func() { err = r.Close(ctx) })
				if err == nil {
					t.Errorf("after %v: etcd does not answer, and Close is content", took)
				}
				if again := r.Close(t.Context()); !errors.Is(again, err) {
					t.Errorf("closed again: %v, and before %v", again, err)
				}
				link.Drop()
				etcdtest.WaitKeys(t, shortTTL+2*time.Second, c.Client(), prefix+"/", 0)
			})
		}
	}
}

// With a context that is done, Close still does its work where etcd answers.
func TestCloseWorksWithAContextThatIsDone(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	r := register(t, cli, mail("a"), &registry.Options{Prefix: prefix})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
	if kv := get(t, cli, prefix+"/mail/a"); kv != nil {
		t.Errorf("closed, and etcd has %v", kv)
	}
}

// A program that closes its client first, by the order of its defers perhaps, is told so, and not held up for longer
// than ctx says.
func TestCloseAfterTheClientIsNotHeldUp(t *testing.T) { // not beside other tests: it takes times
	c := etcdtest.New(t, nil)
	cli := c.Client()
	r := register(t, cli, mail("a"), &registry.Options{Session: short})
	v := watch(t, cli, "mail", "")
	sees(t, soon, v, "a")
	if err := cli.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var err error
	etcdtest.Returns(t, time.Second, "Close", func() { err = r.Close(ctx) })
	if err == nil {
		t.Error("the lease was not revoked, and Close is content")
	}
	etcdtest.Returns(t, time.Second, "Close of the view", v.Close)
	if s := v.Snapshot(); len(s.Instances) != 1 {
		t.Errorf("the last snapshot is %v", list(s))
	}
	etcdtest.WaitKeys(t, shortTTL+2*time.Second, c.Client(), "services/", 0)
}
