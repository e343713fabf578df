package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/retry"
)

// put stands for a call to etcd that is refused twice and then works.
func put() func(context.Context) error {
	calls := 0
	return func(context.Context) error {
		if calls++; calls < 3 {
			return rpctypes.ErrNoLeader
		}
		fmt.Println("written by attempt", calls)
		return nil
	}
}

func Example() {
	// The zero Policy repeats only what certainly was not applied.
	err := retry.Do(context.Background(), retry.Policy{}, put())
	fmt.Println(err)
	// Output:
	// written by attempt 3
	// <nil>
}

// A read may be repeated after any failure that may go away, a lost answer included.
func ExampleIdempotent() {
	calls := 0
	read := func(context.Context) (string, error) {
		if calls++; calls == 1 {
			return "", rpctypes.ErrTimeout
		}
		return "30s", nil
	}
	v, err := retry.Value(context.Background(), retry.Policy{Retryable: retry.Idempotent}, read)
	fmt.Println(v, err)
	// Output: 30s <nil>
}

// Without that, an ambiguous error is the caller's to resolve.
func ExampleAmbiguous() {
	p := retry.Policy{AttemptTimeout: time.Millisecond}
	err := retry.Do(context.Background(), p, func(ctx context.Context) error {
		<-ctx.Done() // the answer never comes
		return ctx.Err()
	})
	fmt.Println(errors.Is(err, context.DeadlineExceeded), retry.Transient(err), retry.Ambiguous(err))
	// Output: true false true
}

func ExampleEtcdError() {
	// As a cancelled watch says it: nothing but text.
	err := errors.New("rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted")
	if errors.Is(retry.EtcdError(err), rpctypes.ErrCompacted) {
		fmt.Println("read again")
	}
	// Output: read again
}

// What repairs itself for ever uses the waits of a policy without its bounds.
func ExamplePolicy_Backoff() {
	ctx, cancel := context.WithCancel(context.Background())
	register := put()
	waits := retry.Policy{Initial: time.Millisecond}.Backoff()
	for register(ctx) != nil {
		if waits.Wait(ctx) != nil {
			break
		}
	}
	waits.Reset() // once it has worked for a while

	cancel()
	fmt.Println(waits.Wait(ctx))
	// Output:
	// written by attempt 3
	// context canceled
}
