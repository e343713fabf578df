package config_test

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
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// scene is a key with two versions, another environment, and a Store on a client whose calls fail.
type scene struct {
	calls     *etcdtest.Calls
	cli       *clientv3.Client // whose calls do not fail
	dev, prod *config.Store
	key       string // of prod
	sound     *config.Store
}

func newScene(t testing.TB, dial func(*etcdtest.Calls) []grpc.DialOption) *scene {
	t.Helper()
	s := &scene{calls: &etcdtest.Calls{}, cli: etcdtest.Client(t)}
	s.dev, s.prod = environments(t, etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: dial(s.calls)}))
	s.key = s.prod.Environment() + "/level"
	s.sound = store(t, s.cli, nil)
	publish(t, s.sound, s.key, "1")
	publish(t, s.sound, s.key, "2")
	publish(t, s.sound, s.dev.Environment()+"/level", "3")
	s.calls.Reset()
	return s
}

// deed is what a method does to a scene: what it must return, and what the history is then.
type deed struct {
	name string
	do   func(ctx context.Context, s *scene) (config.Version, error)
	says []string
}

// one is the one version that a transfer has written.
func one(t config.Transfer, err error) (config.Version, error) {
	if err != nil || len(t.Written) != 1 {
		return config.Version{}, errors.Join(err, fmt.Errorf("%d were written, unknown are %q", len(t.Written), t.Unknown))
	}
	return t.Written[0], nil
}

var deeds = []deed{
	{"Publish", func(ctx context.Context, s *scene) (config.Version, error) {
		return s.prod.Publish(ctx, s.key, []byte("3"), config.PublishOptions{})
	}, []string{"published 1", "published 2", "published 3"}},
	{"Update", func(ctx context.Context, s *scene) (config.Version, error) {
		return s.prod.Update(ctx, s.key, func(old []byte) ([]byte, error) { return append(old, '+'), nil }, config.PublishOptions{})
	}, []string{"published 1", "published 2", "published 2+"}},
	{"Delete", func(ctx context.Context, s *scene) (config.Version, error) {
		return s.prod.Delete(ctx, s.key, config.PublishOptions{})
	}, []string{"published 1", "published 2", "deleted, gone"}},
	{"Rollback", func(ctx context.Context, s *scene) (config.Version, error) {
		return s.prod.Rollback(ctx, s.key, 1, config.PublishOptions{})
	}, []string{"published 1", "published 2", "rolled back 1"}},
	{"Import", func(ctx context.Context, s *scene) (config.Version, error) {
		return one(s.prod.Import(ctx, s.prod.Environment(), strings.NewReader("etcdkit: config/1\nprefix: x\n---\nkey: level\nvalue: \"3\"\n"), config.TransferOptions{}))
	}, []string{"published 1", "published 2", "published 3"}},
	{"Promote", func(ctx context.Context, s *scene) (config.Version, error) {
		c, err := s.prod.Compare(ctx, s.dev, "")
		if err != nil {
			return config.Version{}, err
		}
		return one(s.prod.Promote(ctx, s.dev, c.Differences, config.TransferOptions{}))
	}, []string{"published 1", "published 2", "published 3"}},
}

// aside is a deed after others have changed the key by other means: that is entered first, in a transaction of its own.
func aside(d deed) deed {
	do := d.do
	d.name += " after others"
	d.do = func(ctx context.Context, s *scene) (config.Version, error) {
		if _, err := s.cli.Put(ctx, s.key, "x"); err != nil {
			return config.Version{}, err
		}
		return do(ctx, s)
	}
	d.says = slices.Insert(slices.Clone(d.says), 2, "outside x")
	for i := range d.says {
		d.says[i] = strings.Replace(d.says[i], "2+", "x+", 1)
	}
	return d
}

// dials are the kinds of clients: a plain one repeats some calls by itself.
var dials = map[string]func(*etcdtest.Calls) []grpc.DialOption{
	"plain": func(c *etcdtest.Calls) []grpc.DialOption { return c.DialOptions() },
	"with a policy": func(c *etcdtest.Calls) []grpc.DialOption {
		return append(retry.DialOptions(retry.Policy{}), c.DialOptions()...)
	},
}

// Whatever answer is lost, of a write that was carried out or one that was not: there is one version more, and it is the one that the caller is told of.
func TestALostAnswerOfAnyCallMakesNoOtherVersion(t *testing.T) {
	t.Parallel()
	all := slices.Clone(deeds)
	for _, d := range deeds {
		all = append(all, aside(d))
	}
	for kind, dial := range dials {
		for _, d := range all {
			t.Run(d.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				undisturbed, written := newScene(t, dial), 0
				undisturbed.calls.Inject(etcdtest.Fault{Call: "Txn", Match: func(m any) bool {
					if writes(m) {
						written++
					}
					return false
				}})
				must[config.Version](t)(d.do(t.Context(), undisturbed))
				var faults []etcdtest.Fault
				for _, call := range []string{"Txn", "Range"} {
					for n := range undisturbed.calls.Count(call) {
						faults = append(faults, etcdtest.Fault{Call: call, Skip: n, After: true}, etcdtest.Fault{Call: call, Skip: n})
					}
				}
				for n := range written { // such as take time
					late := status.Error(codes.DeadlineExceeded, "etcdserver: request timed out")
					faults = append(faults,
						etcdtest.Fault{Call: "Txn", Match: writes, Skip: n, After: true, Silent: true},
						etcdtest.Fault{Call: "Txn", Match: writes, Skip: n, After: true, Err: late})
				}
				for _, f := range faults {
					s := newScene(t, dial)
					lost := s.calls.Inject(f)
					v, err := d.do(t.Context(), s)
					if lost.Hits() != 1 {
						t.Fatalf("the %s number %d was not lost", f.Call, f.Skip)
					}
					if err != nil {
						t.Errorf("%s %d lost, after %t: %v", f.Call, f.Skip, f.After, err)
						continue
					}
					history := must[[]config.Version](t)(s.sound.History(t.Context(), s.key, 0))
					tells(t, s.sound, s.key, d.says...)
					if v.Number != history[0].Number || v.Revision != history[0].Revision || v.Kind != history[0].Kind {
						t.Errorf("%s %d lost, after %t: the newest version is %+v, and %+v was returned", f.Call, f.Skip, f.After, history[0], v)
					}
				}
			})
		}
	}
}

// The answer of a write that was carried out is lost, and before it is asked for others have written again.
func TestAWriteWhoseAnswerWasLostIsKnownThoughOthersHaveWrittenSince(t *testing.T) {
	t.Parallel()
	for kind, dial := range dials {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lose := func(s *scene, keep int) (config.Version, error) {
				hold := make(chan struct{})
				lost := s.calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, After: true, Hold: hold, Err: status.Error(codes.Unavailable, "lost")})
				go func() {
					defer close(hold)
					<-lost.Hit()
					other := store(t, s.cli, &config.StoreOptions{Keep: keep})
					for n := range 3 {
						if _, err := other.Publish(context.Background(), s.key, fmt.Appendf(nil, "other %d", n), config.PublishOptions{}); err != nil {
							t.Error(err)
						}
					}
				}()
				return s.prod.Publish(t.Context(), s.key, []byte("3"), config.PublishOptions{})
			}
			s := newScene(t, dial)
			v := must[config.Version](t)(lose(s, 100))
			tells(t, s.sound, s.key, "published 1", "published 2", "published 3", "published other 0", "published other 1", "published other 2")
			if in := must[config.Version](t)(s.sound.Version(t.Context(), s.key, 3)); in.Revision != v.Revision || v.Number != 3 {
				t.Errorf("told %+v, the history says %+v", v, in)
			}
			// And so much that the history does not go back to it.
			s = newScene(t, dial)
			if _, err := lose(s, 1); !retry.Ambiguous(err) || !strings.Contains(err.Error(), "the history does not go back to it") {
				t.Errorf("what cannot be known: %v", err)
			}
			tells(t, s.sound, s.key, "published other 2")
		})
	}
}

// The write was not carried out, and its answer is lost; then somebody else is faster.
func TestAWriteThatWasNotCarriedOutIsMadeOnWhatIsThereThen(t *testing.T) {
	t.Parallel()
	for kind, dial := range dials {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dial)
			hold := make(chan struct{})
			lost := s.calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, Hold: hold, Err: status.Error(codes.Unavailable, "lost")})
			go func() {
				defer close(hold)
				<-lost.Hit()
				put(t, s.cli, s.key, "x")
			}()
			v := must[config.Version](t)(s.prod.Update(t.Context(), s.key, func(old []byte) ([]byte, error) { return append(old, '+'), nil }, config.PublishOptions{}))
			tells(t, s.sound, s.key, "published 1", "published 2", "outside x", "published x+")
			if v.Number != 4 {
				t.Errorf("told %+v", v)
			}
			// With an expectation it is a conflict, and certain.
			s = newScene(t, dial)
			now := must[config.Version](t)(s.sound.Get(t.Context(), s.key))
			hold = make(chan struct{})
			lost = s.calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, Hold: hold, Err: status.Error(codes.Unavailable, "lost")})
			go func() {
				defer close(hold)
				<-lost.Hit()
				put(t, s.cli, s.key, "x")
			}()
			_, err := s.prod.Publish(t.Context(), s.key, []byte("3"), config.PublishOptions{Expect: now.Revision})
			if !errors.Is(err, config.ErrConflict) || retry.Ambiguous(err) {
				t.Errorf("with an expectation: %v", err)
			}
		})
	}
}

// Wherever a method waits, the end of its context ends it at once.
func TestACancelledContextEndsAnyCallAtOnce(t *testing.T) {
	t.Parallel()
	all := slices.Clone(deeds)
	for _, d := range deeds {
		all = append(all, aside(d))
	}
	look := func(name string, fn func(ctx context.Context, s *scene) error) {
		all = append(all, aside(deed{name: name, do: func(ctx context.Context, s *scene) (config.Version, error) {
			return config.Version{}, fn(ctx, s)
		}, says: []string{"", "", ""}}))
	}
	look("Get", func(ctx context.Context, s *scene) error { return second(s.prod.Get(ctx, s.key)) })
	look("History", func(ctx context.Context, s *scene) error { return second(s.prod.History(ctx, s.key, 0)) })
	look("Diff", func(ctx context.Context, s *scene) error { return second(s.prod.Diff(ctx, s.key, 1, 2)) })
	look("VersionAt", func(ctx context.Context, s *scene) error { return second(s.prod.VersionAt(ctx, s.key, time.Now())) })
	look("At", func(ctx context.Context, s *scene) error { return second(s.prod.At(ctx, "", 0)) })
	look("Export", func(ctx context.Context, s *scene) error { return s.prod.Export(ctx, "", &strings.Builder{}) })
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			undisturbed := newScene(t, dials["plain"])
			must[config.Version](t)(d.do(t.Context(), undisturbed))
			for _, call := range []string{"Txn", "Range"} {
				for n := range undisturbed.calls.Count(call) {
					for _, after := range []bool{true, false} {
						s := newScene(t, dials["plain"])
						held := s.calls.Inject(etcdtest.Fault{Call: call, Skip: n, Silent: true, After: after, Times: -1})
						ctx, cancel := context.WithCancelCause(t.Context())
						why := errors.New("the user is gone")
						returned := make(chan error, 1)
						go func() {
							_, err := d.do(ctx, s)
							returned <- err
						}()
						etcdtest.Done(t, soon, "the call", held.Hit())
						cancel(why)
						began := time.Now()
						err := etcdtest.Receive(t, soon, d.name+" returns", returned)
						if took := time.Since(began); took > 2*time.Second {
							t.Errorf("%s %d: returned %v after the end of its context", call, n, took)
						}
						if !errors.Is(err, context.Canceled) {
							t.Errorf("%s %d: %v", call, n, err)
						}
					}
				}
			}
		})
	}
}

// Without etcd the endpoints are named, after a bounded time.
func TestAStoreWithoutEtcdSaysWhich(t *testing.T) {
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	s := store(t, link.Client(), nil)
	publish(t, s, "level", "1")
	link.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := s.Publish(ctx, "level", []byte("2"), config.PublishOptions{})
	if err == nil || !strings.Contains(err.Error(), "etcd is unreachable") || !strings.Contains(err.Error(), `config "level"`) || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
	link.Heal()
	publish(t, s, "level", "3")
	tells(t, s, "level", "published 1", "published 3")
}

// A full database takes no writes, and is told of at once. Reads go on, also of what others had changed before.
func TestAFullDatabaseIsToldOfAtOnceAndReadAllTheSame(t *testing.T) {
	c := etcdtest.New(t, nil)
	cli := c.Client()
	s := store(t, cli, nil)
	publish(t, s, "level", "1")
	put(t, cli, "level", "2")
	c.FillUp()
	began := time.Now()
	_, err := s.Publish(t.Context(), "level", []byte("3"), config.PublishOptions{})
	if err == nil || !strings.Contains(err.Error(), "database space exceeded") || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	tells(t, s, "level", "published 1", "outside 2")
	c.FreeUp()
	publish(t, s, "level", "4")
	tells(t, s, "level", "published 1", "outside 2", "published 4")
}

// What is compared is what was read: the value, the head and the plan.
func TestAWriteComparesAllThatItWasReadWith(t *testing.T) {
	t.Parallel()
	s := newScene(t, dials["plain"])
	var seen []string
	s.calls.Inject(etcdtest.Fault{Call: "Txn", Match: func(m any) bool {
		if !writes(m) {
			return false
		}
		txn, _ := m.(*pb.TxnRequest)
		for _, c := range txn.Compare {
			seen = append(seen, fmt.Sprintf("%s %s", strings.TrimPrefix(string(c.Key), "etcdkit/config/"+s.key), c.Target))
		}
		return false
	}})
	publish(t, s.prod, s.key, "3")
	if want := []string{"//head MOD", s.key + " MOD", "//rollout/plan MOD"}; !slices.Equal(seen, want) {
		t.Errorf("it compares %q", seen)
	}
}
