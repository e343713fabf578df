package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// absent is the comparison of a key that is to be created.
func absent(key string) []clientv3.Cmp {
	return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
}

// outcome checks a result, and that it and its error do not contradict each other.
func outcome(t *testing.T, what string, r retry.Result, err error, want retry.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Errorf("%s: the outcome is %v, want %v: %+v, %v", what, r.Outcome, want, r, err)
	}
	if r.Outcome == retry.Unknown && (!retry.Ambiguous(err) || r.Why == nil) {
		t.Errorf("%s: unknown, because of %v, with the error %v", what, r.Why, err)
	}
	if r.Outcome == retry.Applied && err != nil {
		t.Errorf("%s: applied, with the error %v", what, err)
	}
	if r.Outcome == retry.NotApplied && retry.Ambiguous(err) {
		t.Errorf("%s: not applied, with the ambiguous error %v", what, err)
	}
}

// F24: whatever the answer, and whether it was carried out before: a transaction that cannot be applied twice is applied once,
// and Commit knows; one that can be is never sent twice; and nothing is said that is not so.
func TestCommitNeverLiesWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	cli := calm(t, retry.Policy{}, c.Endpoints()...)
	for _, code := range failures() {
		for _, after := range []bool{false, true} {
			if after && !uncertain(code) {
				continue // a final answer, which etcd does not give to what it carried out
			}
			for _, once := range []bool{true, false} {
				for _, probing := range []bool{true, false} {
					name := fmt.Sprintf("%v/after=%t/once=%t/probe=%t", code, after, once, probing)
					key := name + "/key"
					var cmps []clientv3.Cmp
					if once {
						cmps = absent(key)
					}
					var probe retry.Probe
					if probing {
						probe = mine(cli, key, name)
					}
					cli.wire.Reset()
					cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: after, Err: answer(code)})
					r, err := retry.Commit(t.Context(), cli, cmps, []clientv3.Op{clientv3.OpPut(key, name)}, probe)
					sent := cli.wire.Count("Txn")
					value, version := mustGet(t, oracle, key)

					again := once && uncertain(code) && code != codes.DataLoss
					switch {
					case version > 1:
						t.Errorf("%s: applied %d times", name, version)
					case r.Outcome == retry.Applied && value != name, r.Outcome == retry.NotApplied && value != "":
						t.Errorf("%s: %v, but the key is %q: %v", name, r.Outcome, value, err)
					}
					if want := map[bool]int{true: 2, false: 1}[again]; sent != want {
						t.Errorf("%s: sent %d times, want %d", name, sent, want)
					}
					expected := retry.Unknown
					switch {
					case !uncertain(code):
						expected = retry.NotApplied
					case after && probing, again && !after:
						expected = retry.Applied
					}
					outcome(t, name, r, err, expected)
				}
			}
		}
	}
}

// B3: a client without a policy sends a transaction again by itself that was answered with Canceled or DeadlineExceeded, and
// Commit sees only the second answer: a refusal by what the first one wrote.
func TestCommitIsNotFooledByTheRepeatsOfTheStockClient(t *testing.T) {
	t.Parallel()
	cli, calls := stock(t, etcdtest.Shared(t).Endpoints()...)
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	for _, code := range failures() {
		key := prefix + code.String()
		calls.Inject(etcdtest.Fault{Call: "Txn", After: true, Err: answer(code)})
		r, err := retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "mine")}, mine(cli, key, "mine"))
		if _, version := mustGet(t, oracle, key); uncertain(code) && (r.Outcome != retry.Applied || version != 1) {
			t.Errorf("%v: %v, applied %d times: %v", code, r.Outcome, version, err)
		}
	}
}

// A budget that is spent and a breaker that is open are spent and open for Commit's own repeats, too; and what cannot be
// reached is not tried for five times as long.
func TestCommitDoesNotAskAgainForWhatThePolicyBelowHoldsBack(t *testing.T) {
	t.Parallel()
	const burst = 3
	key := etcdtest.Prefix(t)
	cli := calm(t, retry.Policy{Budget: &retry.Budget{Burst: burst, PerSecond: 1e-6}, Initial: time.Millisecond}, etcdtest.Shared(t).Endpoints()...)
	cli.wire.Inject(etcdtest.Fault{Call: "Txn", Times: -1, Err: rpctypes.ErrGRPCNoLeader})
	r, err := retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "")}, nil)
	outcome(t, "no budget", r, err, retry.NotApplied)
	want(t, "no budget", err, retry.ErrBudget)
	if n := cli.wire.Count("Txn"); n != 1+burst {
		t.Errorf("%d transactions were sent, want one and %d repeats", n, burst)
	}
	cut := calm(t, retry.Policy{ConnectTimeout: 100 * time.Millisecond}, mute(t))
	r, err = retry.Commit(t.Context(), cut, absent(key), []clientv3.Op{clientv3.OpPut(key, "")}, nil)
	outcome(t, "no connection", r, err, retry.NotApplied)
	if n := cut.outer.Count("Txn"); n != 1 {
		t.Errorf("a connection was waited for %d times", n)
	}
}

// Without a loss the answer decides, and nobody is asked.
func TestCommitTakesEtcdsWordWhenItGetsIt(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	never := func(context.Context) (retry.Outcome, int64, error) {
		t.Error("the probe was asked")
		return retry.Unknown, 0, nil
	}
	r, err := retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "")}, never)
	outcome(t, "create", r, err, retry.Applied)
	if r.Revision == 0 || r.Response == nil || r.Revision != r.Response.Header.Revision || r.Why != nil {
		t.Errorf("create: %+v", r)
	}
	second, err := retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "")}, never)
	outcome(t, "create again", second, err, retry.NotApplied)
	if err != nil || second.Revision < r.Revision || second.Why != nil || second.Response.Succeeded {
		t.Errorf("create again: %+v, %v", second, err)
	}
	_, err = retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut("", "")}, never)
	want(t, "an invalid request", err, rpctypes.ErrEmptyKey)
	if n := cli.wire.Count("Txn"); n != 3 {
		t.Errorf("%d transactions were sent, of three", n)
	}
}

// After a lost answer the refusal of the second attempt is either our own doing or somebody else's: the probe tells.
func TestCommitTellsItsOwnWriteFromAnothers(t *testing.T) {
	t.Parallel()
	oracle, cli := etcdtest.Client(t), calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	prefix := etcdtest.Prefix(t)

	r, err := retry.Commit(t.Context(), cli, absent(prefix+"a"), []clientv3.Op{clientv3.OpPut(prefix+"a", "mine")}, nil)
	outcome(t, "no loss", r, err, retry.Applied)

	cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: true})
	key := prefix + "mine"
	r, err = retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "mine")}, mine(cli, key, "mine"))
	outcome(t, "own write", r, err, retry.Applied)
	resp, getErr := oracle.Get(t.Context(), key)
	if getErr != nil || r.Revision != resp.Kvs[0].ModRevision || r.Why == nil {
		t.Errorf("own write: %+v, in etcd %v, %v", r, resp, getErr)
	}

	// Lost before it was carried out, and somebody else is faster than the second attempt.
	key = prefix + "theirs"
	cli.wire.Inject(etcdtest.Fault{Call: "Txn"})
	stranger := cli.wire.Inject(etcdtest.Fault{Call: "Txn", Match: func(any) bool {
		_, err := oracle.Put(t.Context(), key, "theirs")
		return err != nil // never: it is there for what happens before
	}})
	r, err = retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "mine")}, mine(cli, key, "mine"))
	stranger.Remove()
	outcome(t, "another's write", r, err, retry.NotApplied)
	if value, version := mustGet(t, oracle, key); value != "theirs" || version != 1 {
		t.Errorf("another's write: the key is %q at version %d", value, version)
	}
	if err != nil || r.Why == nil {
		t.Errorf("another's write: %+v, %v", r, err)
	}
}

// A request whose answer did not come may be on its way still, and arrive when the second attempt has been refused: if it was
// refused by another comparison than the one that the transaction itself undoes, it can still be applied.
func TestCommitDoesNotCallFinalWhatARequestOnItsWayCanUndo(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	key, gate := prefix+"key", prefix+"gate"
	rev := mustPut(t, oracle, key, "old")
	mustPut(t, oracle, gate, "open")

	var (
		arrive  = make(chan struct{})
		arrived = make(chan error, 1)
		first   = true
	)
	// The first request is answered with a broken connection, and reaches etcd later, as the retransmission of a real network.
	late := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if method != "/etcdserverpb.KV/Txn" || !first {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		first = false
		go func() {
			<-arrive
			arrived <- invoke(context.WithoutCancel(ctx), method, req, new(pb.TxnResponse), cc) // nobody waits for it
		}()
		_, err := oracle.Put(ctx, gate, "closed")
		return errors.Join(err, answer(codes.Unavailable))
	}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: append(retry.DialOptions(retry.Policy{}), grpc.WithChainUnaryInterceptor(late))})
	r, err := retry.Commit(t.Context(), cli, []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", rev),
		clientv3.Compare(clientv3.Value(gate), "=", "open"),
	}, []clientv3.Op{clientv3.OpPut(key, "mine")}, mine(cli, key, "mine"))
	t.Logf("%v, %v", r.Outcome, err)

	mustPut(t, oracle, gate, "open")
	close(arrive)
	if err := etcdtest.Receive(t, soon, "the late request", arrived); err != nil {
		t.Fatal(err)
	}
	if value, _ := mustGet(t, oracle, key); value == "mine" && r.Outcome == retry.NotApplied {
		t.Error("Commit said that it was not applied and will not be, and then it was")
	}
}

// A transaction that stays possible after it was applied must not be sent twice: an append would be there twice.
func TestCommitSendsOnceWhatCouldBeAppliedTwice(t *testing.T) {
	t.Parallel()
	oracle, cli := etcdtest.Client(t), calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	for what, txn := range map[string]func(key string, rev int64) ([]clientv3.Cmp, []clientv3.Op){
		"no comparison": func(key string, _ int64) ([]clientv3.Cmp, []clientv3.Op) {
			return nil, []clientv3.Op{clientv3.OpPut(key, "new")}
		},
		"a value": func(key string, _ int64) ([]clientv3.Cmp, []clientv3.Op) {
			return []clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", "old")}, []clientv3.Op{clientv3.OpPut(key, "new")}
		},
		"another key": func(key string, _ int64) ([]clientv3.Cmp, []clientv3.Op) {
			return absent(key + "lock"), []clientv3.Op{clientv3.OpPut(key, "new")}
		},
		"a guard": func(key string, rev int64) ([]clientv3.Cmp, []clientv3.Op) {
			return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", rev)}, []clientv3.Op{clientv3.OpPut(key, "new")}
		},
		"a revision, not equal": func(key string, rev int64) ([]clientv3.Cmp, []clientv3.Op) {
			return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), ">", rev-1)}, []clientv3.Op{clientv3.OpPut(key, "new")}
		},
		"a range of revisions": func(key string, rev int64) ([]clientv3.Cmp, []clientv3.Op) {
			return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", rev).WithRange(key + "1")}, []clientv3.Op{clientv3.OpPut(key, "new")}
		},
	} {
		key := etcdtest.Prefix(t)
		cmps, ops := txn(key, mustPut(t, oracle, key, "old"))
		cli.wire.Reset()
		fault := cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: true, Times: -1})
		r, err := retry.Commit(t.Context(), cli, cmps, ops, nil)
		fault.Remove()
		outcome(t, what, r, err, retry.Unknown)
		if n := cli.wire.Count("Txn"); n != 1 {
			t.Errorf("%s: sent %d times", what, n)
		}
	}
}

// Every kind of comparison that its own write undoes: sent again after a loss, applied once.
func TestCommitSendsAgainWhatCannotBeAppliedTwice(t *testing.T) {
	t.Parallel()
	oracle, cli := etcdtest.Client(t), calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	for what, txn := range map[string]func(key string, rev int64) (clientv3.Cmp, clientv3.Op){
		"put at a revision": func(key string, rev int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.ModRevision(key), "=", rev), clientv3.OpPut(key, "new")
		},
		"delete at a revision": func(key string, rev int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.ModRevision(key), "=", rev), clientv3.OpDelete(key)
		},
		"delete one's own": func(key string, rev int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.CreateRevision(key), "=", rev), clientv3.OpDelete(key)
		},
		"create": func(key string, _ int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.CreateRevision(key+"new"), "=", 0), clientv3.OpPut(key+"new", "")
		},
		"create by version": func(key string, _ int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.Version(key+"new"), "=", 0), clientv3.OpPut(key+"new", "")
		},
		"create by mod revision": func(key string, _ int64) (clientv3.Cmp, clientv3.Op) {
			return clientv3.Compare(clientv3.ModRevision(key+"new"), "=", 0), clientv3.OpPut(key+"new", "")
		},
	} {
		for _, after := range []bool{false, true} {
			key := etcdtest.Prefix(t)
			cmp, op := txn(key, mustPut(t, oracle, key, "old"))
			cli.wire.Reset()
			cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: after})
			applied := func(context.Context) (retry.Outcome, int64, error) { return retry.Applied, 1, nil }
			r, err := retry.Commit(t.Context(), cli, []clientv3.Cmp{cmp}, []clientv3.Op{op}, applied)
			outcome(t, what, r, err, retry.Applied)
			if n := cli.wire.Count("Txn"); n != 2 {
				t.Errorf("%s: sent %d times", what, n)
			}
			if all := history(t, oracle, key); len(all) != 2 {
				t.Errorf("%s: %d changes, want the one before and this one: %v", what, len(all), all)
			}
		}
	}
}

// F13: the answer ErrNoSpace does not say whether it was applied, and a repeat is of no use.
func TestCommitWithAFullDatabase(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli := calm(t, retry.Policy{}, c.Endpoints()...)
	c.FillUp()
	put := []clientv3.Op{clientv3.OpPut("k", "v")}
	r, err := retry.Commit(t.Context(), cli, absent("k"), put, mine(cli, "k", "v"))
	outcome(t, "with a probe", r, err, retry.NotApplied)
	want(t, "with a probe", err, rpctypes.ErrNoSpace)
	r, err = retry.Commit(t.Context(), cli, absent("k"), put, nil)
	outcome(t, "without", r, err, retry.Unknown)
	want(t, "without", err, rpctypes.ErrNoSpace)
	if n := cli.wire.Count("Txn"); n != 2 {
		t.Errorf("%d transactions were sent, of two", n)
	}
	// Releases must go on: a transaction that only deletes is taken.
	r, err = retry.Commit(t.Context(), cli, nil, []clientv3.Op{clientv3.OpDelete("k")}, nil)
	outcome(t, "a delete", r, err, retry.Applied)
	c.FreeUp()
	etcdtest.Eventually(t, soon, "writes go on", func(ctx context.Context) error {
		r, err := retry.Commit(ctx, cli, absent("k"), put, mine(cli, "k", "v"))
		if err == nil && r.Outcome != retry.Applied {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
}

func TestCommitEndsWithItsContextAndSaysThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	put := []clientv3.Op{clientv3.OpPut(key, "")}

	ctx, cancel := context.WithCancel(t.Context())
	fault := cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: true, Silent: true})
	go func() { <-fault.Hit(); cancel() }()
	r, err := retry.Commit(ctx, cli, absent(key), put, mine(cli, key, ""))
	outcome(t, "cancelled after it was sent", r, err, retry.Unknown)
	want(t, "cancelled after it was sent", err, context.Canceled)

	r, err = retry.Commit(ctx, cli, absent(key), put, nil)
	outcome(t, "cancelled before", r, err, retry.NotApplied)
	want(t, "cancelled before", err, context.Canceled)

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	defer cli.wire.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Times: -1}).Remove()
	r, err = retry.Commit(ctx, cli, absent(key+"2"), []clientv3.Op{clientv3.OpPut(key+"2", "")}, mine(cli, key+"2", ""))
	outcome(t, "a deadline", r, err, retry.Unknown)
	want(t, "a deadline", err, context.DeadlineExceeded)
}

// Through a namespace keys are other ones than the caller says: comparison and write must be put together before, and again
// the same at every attempt.
func TestCommitThroughANamespace(t *testing.T) {
	t.Parallel()
	oracle, cli := etcdtest.Client(t), calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	prefix := etcdtest.Prefix(t)
	kv := namespace.NewKV(cli, prefix)
	for _, after := range []bool{false, true} {
		key := fmt.Sprintf("key-%t", after)
		cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: after, Times: 2})
		r, err := retry.Commit(t.Context(), kv, absent(key), []clientv3.Op{clientv3.OpPut(key, "v")}, mine(kv, key, "v"))
		outcome(t, key, r, err, retry.Applied)
		if value, version := mustGet(t, oracle, prefix+key); value != "v" || version != 1 {
			t.Errorf("%s: %q at version %d", key, value, version)
		}
	}
}

// A probe is a read, tried again like one; if it cannot tell, nothing is known.
func TestCommitWithAProbeThatFails(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	errMine := errors.New("my disk is full")
	commit := func(probe retry.Probe) (retry.Result, error) {
		key := etcdtest.Prefix(t)
		cli.wire.Inject(etcdtest.Fault{Call: "Txn", After: true})
		return retry.Commit(t.Context(), cli, absent(key), []clientv3.Op{clientv3.OpPut(key, "v")}, func(ctx context.Context) (retry.Outcome, int64, error) {
			if probe == nil {
				return mine(cli, key, "v")(ctx)
			}
			return probe(ctx)
		})
	}
	cli.wire.Inject(etcdtest.Fault{Call: "Range", Times: 2})
	r, err := commit(nil)
	outcome(t, "a probe whose answer is lost", r, err, retry.Applied)

	for what, failure := range map[string]error{
		"an error of its own":      errMine,
		"marked":                   retry.Permanent(errMine),
		"marked and wrapped":       fmt.Errorf("probe: %w", retry.Permanent(errMine)),
		"one that is not worth it": rpctypes.ErrPermissionDenied,
	} {
		r, err := commit(func(context.Context) (retry.Outcome, int64, error) { return retry.NotApplied, 0, failure })
		outcome(t, what, r, err, retry.Unknown)
		if !errors.Is(err, errMine) && !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: the probe's error is not in %v", what, err)
		}
	}
	r, err = commit(func(context.Context) (retry.Outcome, int64, error) { return retry.Unknown, 0, nil })
	outcome(t, "one that cannot tell", r, err, retry.Unknown)
}

// A breaker that is open, or no connection, is a plain no: nothing was sent.
func TestCommitOfWhatWasNeverSentIsNotApplied(t *testing.T) {
	t.Parallel()
	asked := func(context.Context) (retry.Outcome, int64, error) {
		t.Error("the probe was asked about what was never sent")
		return retry.Unknown, 0, nil
	}
	key := etcdtest.Prefix(t)
	put := []clientv3.Op{clientv3.OpPut(key, "")}
	broken := calm(t, retry.Policy{Breaker: &retry.Breaker{Failures: 1, OpenFor: time.Hour}}, etcdtest.Shared(t).Endpoints()...)
	broken.wire.Inject(etcdtest.Fault{Call: "Put"})
	_, err := broken.Put(t.Context(), key, "")
	isAmbiguous(t, "what opened it", err)
	r, err := retry.Commit(t.Context(), broken, absent(key), put, asked)
	outcome(t, "an open breaker", r, err, retry.NotApplied)
	want(t, "an open breaker", err, retry.ErrBreakerOpen)

	cut := calm(t, retry.Policy{ConnectTimeout: 100 * time.Millisecond}, mute(t))
	r, err = retry.Commit(t.Context(), cut, absent(key), put, asked)
	outcome(t, "no connection", r, err, retry.NotApplied)
	want(t, "no connection", err, retry.ErrConnectTimeout)
}
