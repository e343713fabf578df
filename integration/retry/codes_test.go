package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// F24 and B3: whatever a write is answered with, and whether it was carried out before or not, it takes effect at most once,
// and its error says so if it may have. clientv3 by itself sends a write up to a hundred times that was answered with
// Canceled or DeadlineExceeded.
func TestAWriteTakesEffectAtMostOnceWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	cli := calm(t, retry.Policy{}, c.Endpoints()...)
	for what, write := range map[string]func(ctx context.Context, key string) error{
		"Put":         func(ctx context.Context, key string) error { _, err := cli.Put(ctx, key, "new"); return err },
		"DeleteRange": func(ctx context.Context, key string) error { _, err := cli.Delete(ctx, key); return err },
		"Txn": func(ctx context.Context, key string) error {
			_, err := cli.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), "=", "old")).
				Then(clientv3.OpPut(key, "new")).Else(clientv3.OpPut(key+"!", "")).Commit()
			return err
		},
	} {
		for _, code := range failures() {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s/%v/%t", what, code, after)
				key := name + "/key"
				mustPut(t, oracle, key, "old")
				cli.wire.Reset()
				cli.wire.Inject(etcdtest.Fault{Call: what, After: after, Err: answer(code)})
				err := write(t.Context(), key)
				if n := cli.wire.Count(what); n != 1 {
					t.Errorf("%s was sent %d times", name, n)
				}
				class(t, name, err, false, uncertain(code)) // the other codes are final answers
				effects := history(t, oracle, name)[1:]
				if len(effects) > 1 || len(effects) == 1 != after {
					t.Errorf("%s has taken effect %d times: %v", name, len(effects), effects)
				}
			}
		}
	}

	plain, calls := stock(t, c.Endpoints()...)
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded} {
		calls.Inject(etcdtest.Fault{Call: "Put", After: true, Times: 4, Err: answer(code)})
		key := "stock/" + code.String()
		_, err := plain.Put(t.Context(), key, "")
		_, version := mustGet(t, oracle, key)
		t.Logf("stock: Put answered with %v 4 times was applied %d times, and returned %v", code, version, err)
	}
}

// A transaction that writes nothing is a read, whatever its branches are.
func TestATransactionThatOnlyReadsIsRepeated(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	read := []clientv3.Op{clientv3.OpGet(key)}
	for what, ops := range map[string][]clientv3.Op{
		"flat":   read,
		"nested": {clientv3.OpTxn(nil, read, read)},
		"empty":  nil,
	} {
		cli.wire.Inject(etcdtest.Fault{Call: "Txn", Times: 2})
		if _, err := cli.Txn(t.Context()).Then(ops...).Else(read...).Commit(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	cli.wire.Reset()
	cli.wire.Inject(etcdtest.Fault{Call: "Txn"})
	nested := clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpDelete(key)})
	_, err := cli.Txn(t.Context()).Then(nested).Commit()
	isAmbiguous(t, "a nested delete", err)
	if n := cli.wire.Count("Txn"); n != 1 {
		t.Errorf("a nested delete was sent %d times", n)
	}
}

// Grants and revocations are repeated, as clientv3 does: a lost one leaves a lease behind that ends by itself, and there is
// nothing left to revoke the second time, which is what the error says then.
func TestLeasesAreGrantedAndRevokedWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	cli := calm(t, retry.Policy{}, c.Endpoints()...)
	granted := func() int {
		resp, err := oracle.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(resp.Leases)
	}
	for _, code := range failures() {
		again := uncertain(code) && code != codes.DataLoss
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("grant/%v/%t", code, after)
			before := granted()
			cli.wire.Inject(etcdtest.Fault{Call: "LeaseGrant", After: after, Err: answer(code)})
			lease, err := cli.Grant(t.Context(), 300)
			if again != (err == nil) {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil {
				class(t, name, err, false, uncertain(code))
			}
			most := 1
			if after && again {
				most = 2
			}
			if n := granted() - before; n > most {
				t.Errorf("%s: %d leases", name, n)
			}
			if err != nil {
				if lease, err = cli.Grant(t.Context(), 300); err != nil {
					t.Fatal(err)
				}
			}

			name = fmt.Sprintf("revoke/%v/%t", code, after)
			cli.wire.Inject(etcdtest.Fault{Call: "LeaseRevoke", After: after, Err: answer(code)})
			_, err = cli.Revoke(t.Context(), lease.ID)
			switch {
			case again && !after:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case again:
				want(t, name, err, rpctypes.ErrLeaseNotFound)
				if got := retry.EtcdError(err); got != rpctypes.ErrLeaseNotFound { //nolint:errorlint // as its documentation says
					t.Errorf("%s: EtcdError is %v, of %v", name, got, err)
				}
			default:
				class(t, name, err, false, uncertain(code))
			}
			ttl, err := oracle.TimeToLive(t.Context(), lease.ID)
			if gone := err == nil && ttl.TTL <= 0; err != nil || gone != (again || after) {
				t.Errorf("%s: gone is %t, %v", name, gone, err)
			}
		}
	}
}

// A compaction is not repeated: the second would be refused with ErrCompacted, and hide that the first had been taken.
func TestACompactionIsSentOnceWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	cli := calm(t, retry.Policy{}, c.Endpoints()...)
	for _, code := range failures() {
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("%v/%t", code, after)
			mustPut(t, cli, "k", "")
			rev := mustPut(t, cli, "k", "")
			cli.wire.Reset()
			cli.wire.Inject(etcdtest.Fault{Call: "Compact", After: after, Err: answer(code)})
			_, err := cli.Compact(t.Context(), rev)
			class(t, name, err, false, uncertain(code))
			if n := cli.wire.Count("Compact"); n != 1 {
				t.Errorf("%s: sent %d times", name, n)
			}
			_, err = cli.Get(t.Context(), "k", clientv3.WithRev(rev-1))
			if compacted := errors.Is(err, rpctypes.ErrCompacted); compacted != after {
				t.Errorf("%s: compacted is %t: %v", name, compacted, err)
			}
		}
	}
}

// The errors of etcd itself, through the interceptors: what package retry and errors.Is say of them stays the same.
func TestErrorsOfEtcdKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{MaxAttempts: 2}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	for _, wire := range []error{
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCRequestTooManyRequests, rpctypes.ErrGRPCLeaderChanged,
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCUnhealthy,
		rpctypes.ErrGRPCCanceled, rpctypes.ErrGRPCDeadlineExceeded,
		rpctypes.ErrGRPCNoSpace, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCCompacted, rpctypes.ErrGRPCPermissionDenied,
		rpctypes.ErrGRPCCorrupt,
	} {
		etcd := rpctypes.Error(wire)
		for what, call := range map[string]func() error{
			"Range": func() error { _, err := cli.Get(t.Context(), key); return err },
			"Put":   func() error { _, err := cli.Put(t.Context(), key, ""); return err },
		} {
			cli.outer.Reset()
			fault := cli.wire.Inject(etcdtest.Fault{Call: what, Times: -1, Err: wire})
			err := call()
			fault.Remove()
			name := fmt.Sprintf("%s: %v", what, etcd)
			want(t, name, err, etcd)
			if got := retry.EtcdError(err); got != etcd { //nolint:errorlint // as its documentation says
				t.Errorf("%s: EtcdError is %v", name, got)
			}
			if retry.Transient(err) != retry.Transient(etcd) || retry.Ambiguous(err) != retry.Ambiguous(etcd) || retry.Idempotent(err) != retry.Idempotent(etcd) {
				t.Errorf("%s has another class: transient %t, ambiguous %t, idempotent %t: %v", name,
					retry.Transient(err), retry.Ambiguous(err), retry.Idempotent(err), err)
			}
			if n := cli.outer.Count(what); n != 1 {
				t.Errorf("%s: clientv3 made %d calls of one", name, n)
			}
		}
	}
}

// An attempt that may have been applied is not forgotten when the next one is refused.
func TestALostAnswerIsNotForgottenAfterARefusal(t *testing.T) {
	t.Parallel()
	cli := calm(t, retry.Policy{MaxAttempts: 2, Retryable: retry.Idempotent}, etcdtest.Shared(t).Endpoints()...)
	key := etcdtest.Prefix(t)
	for _, refusal := range []error{rpctypes.ErrGRPCNoLeader, answer(codes.PermissionDenied), answer(codes.NotFound)} {
		cli.wire.Inject(etcdtest.Fault{Call: "Put", After: true})
		cli.wire.Inject(etcdtest.Fault{Call: "Put", Err: refusal})
		_, err := cli.Put(t.Context(), key, "")
		isAmbiguous(t, refusal.Error(), err)
	}
}
