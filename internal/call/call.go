// Package call makes the single etcd calls of etcdkit's packages. Each is tried again while that is safe, each
// attempt is bounded so that the next one meets another endpoint, a member without a leader refuses at once,
// and what finally fails says which endpoint failed how.
//
// Only reads and conditional or otherwise repeatable writes may be made through it: a call whose reply was
// lost is sent again.
package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/retry"
)

// grace is how long a release goes on after its caller's context has ended.
const grace = 150 * time.Millisecond

// policy is the one of a single call: bounded attempts, bounded time.
var policy = retry.Policy{Retryable: again}

// patient is the policy of a call that others bound: a lock's place in line lives as long as its session.
var patient = retry.Policy{Retryable: again, MaxAttempts: -1, MaxElapsed: -1}

// again reports whether a repeatable call should be made again after err. A full database is for an operator
// to mend, and to be told of at once.
func again(err error) bool {
	return retry.Idempotent(err) && !errors.Is(err, rpctypes.ErrNoSpace)
}

// errClosed says that the application has closed its client: nothing will ever be answered.
var errClosed = errors.New("the etcd client was closed")

// Do makes one call. what names it in the error, as in "grant a lease". ctx bounds it; it gives up by itself
// after 10 s, or after the second attempt if every endpoint refuses connections.
func Do[T any](ctx context.Context, client *clientv3.Client, what string, fn func(ctx context.Context) (T, error)) (T, error) {
	attempts := 0
	v, err := repeat(ctx, client, policy, func(attempt context.Context) (T, error) {
		v, err := fn(attempt)
		attempts++
		if err != nil && attempts >= 2 && ctx.Err() == nil && again(err) {
			if why := Refused(ctx, client.Endpoints()); why != nil {
				return v, retry.Permanent(why)
			}
		}
		return v, err
	})
	if err != nil {
		return v, fmt.Errorf("%s: %w", what, Explain(ctx, client, err))
	}
	return v, nil
}

// Persist makes one call for as long as ctx lasts.
func Persist[T any](ctx context.Context, client *clientv3.Client, fn func(ctx context.Context) (T, error)) (T, error) {
	return repeat(ctx, client, patient, fn)
}

// repeat makes attempts by a policy, through a client that dials again after each that failed.
func repeat[T any](ctx context.Context, client *clientv3.Client, p retry.Policy, fn func(ctx context.Context) (T, error)) (T, error) {
	return retry.Value(clientv3.WithRequireLeader(ctx), p, func(attempt context.Context) (T, error) {
		// client/v3 repeats calls on a closed client by itself, a hundred times.
		if client.Ctx().Err() != nil {
			var zero T
			return zero, retry.Permanent(errClosed)
		}
		v, err := fn(attempt)
		if err != nil && again(err) {
			Redial(client)
		}
		return v, err
	})
}

// Release returns a context for giving something back that works although ctx may be done: it ends a moment
// after ctx does, and after limit at the latest.
func Release(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	free, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(grace, cancel)
		context.AfterFunc(free, func() { late.Stop() })
	})
	return free, func() { stop(); cancel() }
}

// LeaseGone reports whether err says that a lease does not exist: for a renewal the end, for a revocation
// success.
func LeaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// Revision is the cluster's revision, by a read that a lagging member cannot answer.
func Revision(ctx context.Context, client *clientv3.Client) (int64, error) {
	// One key that need not exist. A user without the right to read it gets an error, and thus no verdict.
	resp, err := Do(ctx, client, "read the revision", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.KV.Get(ctx, "etcdkit", clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, err
	}
	return resp.Header.GetRevision(), nil
}

// RevisionAhead reports whether err says that etcd has not reached the revision it was asked for. A linearizable
// read that is told so has met a history older than the one its revision came from.
func RevisionAhead(err error) bool { return errors.Is(err, rpctypes.ErrFutureRev) }
