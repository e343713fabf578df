package call

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Beside returns what makes a call as fn does, and from the second time on as two calls at once, if the client has several endpoints: the first
// answer counts. gRPC gives each of a client's calls to the next endpoint, so that of two at once one meets another member than the one that
// hangs; a single one may meet that each time, as other calls are made in between. It is for calls that may be made side by side, each
// of which finds out what the other has written.
func Beside[T any](client *clientv3.Client, fn func(ctx context.Context) (T, error)) func(ctx context.Context) (T, error) {
	type answer struct {
		v   T
		err error
	}
	more := false
	return func(ctx context.Context) (T, error) {
		if !more || len(client.Endpoints()) < 2 {
			more = true
			return fn(ctx)
		}
		var calls sync.WaitGroup
		defer calls.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answers := make(chan answer, 2)
		for range cap(answers) {
			calls.Go(func() {
				v, err := fn(ctx)
				answers <- answer{v, err}
			})
		}
		a := <-answers
		if a.err != nil && again(a.err) {
			a = <-answers
		}
		return a.v, a.err
	}
}
