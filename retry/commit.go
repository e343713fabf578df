package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Outcome is what is known of a write.
type Outcome uint8

const (
	// Unknown says that it may have been applied, or may yet be.
	Unknown Outcome = iota

	// NotApplied says that it was not, and will not be.
	NotApplied

	// Applied says that it was.
	Applied
)

// String is the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "unknown"
	case NotApplied:
		return "not applied"
	case Applied:
		return "applied"
	}
	return fmt.Sprintf("Outcome(%d)", o)
}

// Result is what became of a transaction.
type Result struct {
	Outcome Outcome

	// Revision is that at which the transaction was applied, or at which etcd said that it was not; 0 if that is not known.
	// When only a probe said so, it is what the probe returned.
	Revision int64

	// Response is etcd's answer, if one came. Its Succeeded is the Outcome only if no earlier answer was lost. One that refuses
	// may hold a read of our own.
	Response *clientv3.TxnResponse

	// Why is the reason of an Outcome that is not certain from one answer: that nothing was answered, or which answer was
	// lost before. It is nil after a plain yes or no.
	Why error
}

// Probe finds out, by reading, if a transaction whose answer was lost has been applied: by a value that only this writer
// writes, or by a key that is its own. It returns the revision at which it was (the key's ModRevision), or 0 for not known.
// Unknown is a good answer when reading cannot tell.
type Probe func(ctx context.Context) (Outcome, int64, error)

var (
	errCannotTell = errors.New("retry: an answer was lost, and there is no probe to tell whose write it was")
	errMayArrive  = errors.New("retry: not applied so far, but the request may still be on its way")
)

// Commit writes ops if all of cmps hold, once, and says what became of it even if etcd's answers are lost.
//
// As long as nothing was written it tries again, by the default policy with its waits and limits; ctx bounds all of it.
// After a lost answer:
//
//   - If one of cmps stops holding once ops are applied, the transaction is sent again, as it cannot be applied twice: one that
//     asks for the ModRevision of a key that ops put or delete, for the absence of a key that they put, or for the
//     CreateRevision of a key that they delete. If it is then refused because that very comparison does not hold any more,
//     somebody has written the key, perhaps itself: probe tells which. That is final, as no request that is still under way
//     can be applied any more. (Absence is the weakest of the three: if others delete the key meanwhile, it holds again.)
//   - Otherwise it is never sent again, and probe is asked. That it was not applied so far is no final answer then.
//
// probe may be nil; then what only it could tell is Unknown.
//
// Use it with a client from package pool, or with [DialOptions]. Any other repeats some writes by itself and tells nobody: then
// a refusal may be due to the transaction's own first copy (probe is asked about every refusal, if there is one), and what
// could be applied twice may be. Each of its attempts, 500 ms and doubling, is bounded over whatever that client does itself.
//
// The error is nil if the transaction was applied, or refused because cmps do not hold; else it says why etcd did not take
// it (the outcome is NotApplied), or why nothing more is known: then it is [Ambiguous].
func Commit(ctx context.Context, kv clientv3.KV, cmps []clientv3.Cmp, ops []clientv3.Op, probe Probe) (Result, error) {
	c := commit{kv: kv, cmps: cmps, ops: ops, probe: probe}
	worth := Transient
	if c.undone = undone(cmps, ops); c.undone != nil {
		worth = Idempotent
	}
	resp, err := Value(ctx, Policy{Retryable: func(err error) bool {
		// What the policy of the client below holds back is not to be had by asking again.
		return worth(err) && !errors.Is(err, ErrBudget) && !errors.Is(err, ErrBreakerOpen) && !errors.Is(err, ErrConnectTimeout)
	}}, c.send)
	switch {
	case err == nil && resp.Succeeded:
		return Result{Outcome: Applied, Revision: resp.Header.GetRevision(), Response: resp, Why: c.lost}, nil
	case err == nil && c.lost == nil && (c.exact || c.probe == nil):
		return Result{Outcome: NotApplied, Revision: resp.Header.GetRevision(), Response: resp}, nil
	case err == nil:
		return c.refusedAfterALoss(ctx, resp)
	case !Ambiguous(err):
		return Result{Outcome: NotApplied, Why: err}, err
	}
	return c.unanswered(ctx, err)
}

// commit is one Commit under way.
type commit struct {
	kv     clientv3.KV
	cmps   []clientv3.Cmp
	ops    []clientv3.Op
	probe  Probe
	undone *etcdserverpb.Compare // the comparison that stops holding once ops are applied, if any
	exact  bool                  // the client below makes one call of one: DialOptions
	lost   error                 // the first failure after which it may have been applied
}

// exactKey is the context key of a *bool that the interceptor of DialOptions sets. clientv3 without it sends a write again
// that was answered with Canceled or DeadlineExceeded, and nobody learns of the first answer.
type exactKey struct{}

// send makes one attempt.
func (c *commit) send(ctx context.Context) (*clientv3.TxnResponse, error) {
	ctx = context.WithValue(ctx, exactKey{}, &c.exact)
	txn := c.kv.Txn(clientv3.WithRequireLeader(ctx)).If(c.cmps...).Then(c.ops...)
	if c.undone != nil {
		txn = txn.Else(clientv3.OpGet(string(c.undone.Key), clientv3.WithKeysOnly()))
	}
	resp, err := txn.Commit()
	if c.lost == nil && Ambiguous(err) {
		c.lost = err
	}
	return resp, err
}

// refusedAfterALoss tells whether the comparison failed because an earlier attempt was applied.
func (c *commit) refusedAfterALoss(ctx context.Context, resp *clientv3.TxnResponse) (Result, error) {
	r := Result{Revision: resp.Header.GetRevision(), Response: resp, Why: c.lost}
	outcome, revision, err := c.ask(ctx)
	switch outcome {
	case Applied:
		r.Outcome, r.Revision = Applied, revision
		return r, nil
	case NotApplied:
		if !c.stillHolds(resp) {
			r.Outcome = NotApplied
			return r, nil
		}
		err = errMayArrive
	case Unknown:
	}
	r.Why = errors.Join(err, c.lost)
	return r, unknownOutcome(r.Why)
}

// stillHolds reports whether the comparison that a request still on its way would undo holds as yet: then another one refused
// the transaction, and may hold again when that request arrives.
func (c *commit) stillHolds(resp *clientv3.TxnResponse) bool {
	if c.undone == nil {
		return false
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	var mod, created, version int64
	if len(kvs) > 0 {
		mod, created, version = kvs[0].ModRevision, kvs[0].CreateRevision, kvs[0].Version
	}
	switch of := c.undone.TargetUnion.(type) {
	case *etcdserverpb.Compare_ModRevision:
		return mod == of.ModRevision
	case *etcdserverpb.Compare_CreateRevision:
		return created == of.CreateRevision
	case *etcdserverpb.Compare_Version:
		return version == of.Version
	}
	return false
}

// unanswered tells what became of a transaction to which no answer came at all.
func (c *commit) unanswered(ctx context.Context, err error) (Result, error) {
	outcome, revision, told := c.ask(ctx)
	switch outcome {
	case Applied:
		return Result{Outcome: Applied, Revision: revision, Why: err}, nil
	case NotApplied:
		if EtcdError(c.lost) == rpctypes.ErrNoSpace { //nolint:errorlint // the variables of rpctypes
			return Result{Outcome: NotApplied, Why: err}, Permanent(err) // an answer came, so nothing is under way
		}
		told = errMayArrive
	case Unknown:
	}
	why := errors.Join(told, err)
	return Result{Why: why}, unknownOutcome(why)
}

// ask asks the probe, as long as that helps.
func (c *commit) ask(ctx context.Context) (Outcome, int64, error) {
	if c.probe == nil {
		return Unknown, 0, errCannotTell
	}
	type answer struct {
		outcome  Outcome
		revision int64
	}
	a, err := Value(ctx, Policy{Retryable: Idempotent}, func(ctx context.Context) (answer, error) {
		outcome, revision, err := c.probe(clientv3.WithRequireLeader(ctx))
		return answer{outcome, revision}, err
	})
	if err != nil {
		return Unknown, 0, &probeError{err}
	}
	if a.outcome == Unknown {
		return Unknown, 0, errors.New("retry: the probe cannot tell")
	}
	return a.outcome, a.revision, nil
}

// probeError hides what its error says about being tried again: that is about the probe, and not about the transaction.
type probeError struct{ err error }

func (e *probeError) Error() string        { return fmt.Sprintf("retry: the probe failed: %v", e.err) }
func (e *probeError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *probeError) As(target any) bool {
	if _, mark := target.(**permanentError); mark {
		return false
	}
	return errors.As(e.err, target)
}

func unknownOutcome(why error) error { return fmt.Errorf("retry: outcome unknown: %w", why) }

// stopsHolding reports whether applying ops makes one of cmps false, for good or until others delete a key.
func stopsHolding(cmps []clientv3.Cmp, ops []clientv3.Op) bool { return undone(cmps, ops) != nil }

// undone returns the comparison that applying ops makes false, or nil.
func undone(cmps []clientv3.Cmp, ops []clientv3.Op) *etcdserverpb.Compare {
	for _, c := range cmps {
		cmp := c.GetCompare()
		if cmp.Result != etcdserverpb.Compare_EQUAL || len(cmp.RangeEnd) > 0 {
			continue
		}
		for _, op := range ops {
			if len(op.RangeBytes()) == 0 && bytes.Equal(op.KeyBytes(), cmp.Key) && falsifies(op, cmp) {
				return cmp
			}
		}
	}
	return nil
}

// falsifies reports whether an operation on the key that cmp compares makes cmp false.
func falsifies(op clientv3.Op, cmp *etcdserverpb.Compare) bool {
	var is int64
	switch of := cmp.TargetUnion.(type) {
	case *etcdserverpb.Compare_ModRevision:
		is = of.ModRevision
		if op.IsPut() {
			return true
		}
	case *etcdserverpb.Compare_CreateRevision:
		is = of.CreateRevision
	case *etcdserverpb.Compare_Version:
		if is = of.Version; is > 0 {
			return false // the same version may come again
		}
	default:
		return false // a value or a lease may come again
	}
	return is == 0 && op.IsPut() || is > 0 && op.IsDelete()
}
