package retry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// errandTTL is long enough for a busy machine, and short enough to wait for.
const errandTTL = 10 * time.Second

// errand is one use of a recipe, from its beginning to its close, below a prefix. Its error is the first that it met; what it
// had opened it has closed all the same.
type errand func(ctx context.Context, cli *clientv3.Client, prefix string) error

var errands = map[string]struct {
	run errand

	// repairs itself: after an answer that says that something was not done, it is done again.
	repairs bool
}{
	"lock": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			err := lock.NewMutex(s, prefix+"one").Do(ctx, func(ctx context.Context, g fence.Guard) error {
				_, err := g.Commit(ctx, cli, clientv3.OpPut(prefix+"data", "written"))
				return err
			})
			h, tryErr := lock.NewMutex(s, prefix+"two").TryLock(ctx)
			if tryErr == nil {
				tryErr = h.Unlock(ctx)
			}
			return errors.Join(err, tryErr)
		})
	}},
	"lock, contended": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			return inSession(ctx, cli, func(other *session.Session) error {
				first, err := lock.NewMutex(s, prefix+"one").Lock(ctx)
				if err != nil {
					return err
				}
				waited := make(chan error, 1)
				go func() {
					h, err := lock.NewMutex(other, prefix+"one").Lock(ctx)
					if err == nil {
						err = h.Unlock(ctx)
					}
					waited <- err
				}()
				return errors.Join(first.Unlock(ctx), <-waited)
			})
		})
	}},
	"permits": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			sem := lock.NewSemaphore(s, prefix+"one", 3)
			first, err := sem.Acquire(ctx, 2)
			if err != nil {
				return err
			}
			_, slotErr := first.Slot(ctx)
			second, tryErr := sem.TryAcquire(ctx, 1) // beside another: it looks, and comes
			if tryErr == nil {
				tryErr = second.Unlock(ctx)
			}
			return errors.Join(slotErr, tryErr, first.Unlock(ctx))
		})
	}},
	"reader": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			return lock.NewRWMutex(s, prefix+"one").Reader().Do(ctx, func(context.Context, fence.Guard) error { return nil })
		})
	}},
	"several locks": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			return lock.NewMulti(s, prefix+"one", prefix+"two").Do(ctx, func(context.Context, []fence.Guard) error { return nil })
		})
	}},
	"election": {run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		return inSession(ctx, cli, func(s *session.Session) error {
			term, err := election.Campaign(ctx, s, prefix+"leader", "a")
			if err != nil {
				return err
			}
			return errors.Join(term.Proclaim(ctx, "b"), term.Proclaim(ctx, "c"), term.Resign(ctx))
		})
	}},
	"registry": {repairs: true, run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		instance := registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.1:1"}
		r, err := registry.Register(ctx, cli, instance, &registry.Options{Prefix: prefix + "services", Session: &session.Options{TTL: errandTTL}})
		if err != nil {
			return err
		}
		return errors.Join(r.Update(ctx, func(i *registry.Instance) { i.Zone = "eu" }), r.Close(ctx))
	}},
	"election, run": {repairs: true, run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		opts := &election.Options{Session: &session.Options{TTL: errandTTL}}
		return election.Run(ctx, cli, prefix+"leader", "a", opts, func(context.Context, *election.Term) error { return nil })
	}},
	"keeper": {repairs: true, run: func(ctx context.Context, cli *clientv3.Client, prefix string) error {
		k := session.NewKeeper(cli, &session.Options{TTL: errandTTL})
		s, err := k.Live(ctx)
		if err == nil {
			err = lock.NewMutex(s, prefix+"one").Do(ctx, func(context.Context, fence.Guard) error { return nil })
		}
		return errors.Join(err, k.Close(ctx))
	}},
}

// inSession opens a session, and closes it when use is done with it.
func inSession(ctx context.Context, cli *clientv3.Client, use func(s *session.Session) error) error {
	s, err := session.Open(ctx, cli, &session.Options{TTL: errandTTL})
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close(ctx))
}

// deeds is what has been done to the keys of an errand.
type deeds struct {
	made    int // keys that were created
	changed int // times that one was put again
	repeats []string
}

// done reads it from etcd's history.
func done(t *testing.T, oracle *clientv3.Client, prefix string) (d deeds) {
	t.Helper()
	last := map[string]string{}
	for _, e := range history(t, oracle, prefix) {
		key, value := string(e.Kv.Key), string(e.Kv.Value)
		switch {
		case e.Type == mvccpb.Event_DELETE:
			delete(last, key)
			continue
		case e.Kv.Version == 1:
			d.made++
		case last[key] == value:
			d.repeats = append(d.repeats, fmt.Sprintf("%s = %s at %d", key, value, e.Kv.ModRevision))
		default:
			d.changed++
		}
		last[key] = value
	}
	return d
}

// F24: each write that each recipe makes is carried out and then answered with each code that there is. Whatever the recipe makes of
// that, nothing is done twice, and when all is closed no key is left; a lease without keys is left only by a grant whose answer
// was lost, and for its TTL.
func TestEveryEffectOfARecipeHappensOnceWhateverIsAnswered(t *testing.T) {
	t.Parallel()
	for what, e := range errands {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, nil)
			oracle := c.Oracle(0)
			cli := calm(t, retry.Policy{}, c.Endpoints()...)
			attempt := func(prefix string) error {
				ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
				defer cancel()
				return e.run(ctx, cli.Client, prefix)
			}
			if err := attempt("undisturbed/"); err != nil {
				t.Fatal(err)
			}
			due, writes := done(t, oracle, "undisturbed/"), map[string]int{}
			for _, call := range []string{"Put", "DeleteRange", "Txn", "LeaseGrant", "LeaseRevoke"} {
				if n := cli.wire.Count(call); n > 0 {
					writes[call] = n
				}
			}
			t.Logf("undisturbed: %+v by %v", due, writes)

			known, outcomes := leases(t, oracle), map[string]int{}
			for _, call := range slices.Sorted(maps.Keys(writes)) {
				for nth := range writes[call] {
					for _, code := range failures() {
						name := fmt.Sprintf("%s %d %v/", call, nth, code)
						fault := cli.wire.Inject(etcdtest.Fault{Call: call, Skip: nth, After: true, Err: answer(code)})
						err := attempt(name)
						fault.Remove()
						if fault.Hits() == 0 && nth == 0 {
							t.Errorf("%s: the fault was not met", name)
						}
						outcomes[map[bool]string{true: "succeeded", false: "failed"}[err == nil]]++

						got := done(t, oracle, name)
						if len(got.repeats) > 0 {
							t.Errorf("%s: done twice: %v (%v)", name, got.repeats, err)
						}
						if err == nil && (got.made < due.made || got.changed < due.changed) {
							t.Errorf("%s: no error, but not all was done: %+v, want %+v", name, got, due)
						}
						if !e.repairs && (got.made > due.made || got.changed > due.changed) {
							t.Errorf("%s: too much was done: %+v, want %+v (%v)", name, got, due, err)
						}
						left, getErr := oracle.Get(t.Context(), name, clientv3.WithPrefix(), clientv3.WithKeysOnly())
						if getErr != nil {
							t.Fatal(getErr)
						}
						for _, kv := range left.Kvs {
							if key := string(kv.Key); key != name+"data" && key != name+"end-of-history" {
								t.Errorf("%s: %s is left (%v)", name, key, err)
							}
						}
						stray := 0
						for id := range leases(t, oracle) {
							if !known[id] {
								known[id] = true
								stray++
							}
						}
						if stray > 1 || stray == 1 && call != "LeaseGrant" {
							t.Errorf("%s: %d leases are left (%v)", name, stray, err)
						}
					}
				}
			}
			t.Logf("%v", outcomes)
			etcdtest.Eventually(t, errandTTL+soon, "no lease is left", func(context.Context) error {
				if ids := leases(t, oracle); len(ids) > 0 {
					return fmt.Errorf("%d", len(ids))
				}
				return nil
			})
		})
	}
}

// leases are those that etcd has.
func leases(t *testing.T, oracle *clientv3.Client) map[clientv3.LeaseID]bool {
	t.Helper()
	resp, err := oracle.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[clientv3.LeaseID]bool{}
	for _, l := range resp.Leases {
		ids[l.ID] = true
	}
	return ids
}
