package follow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/retry"
)

const (
	// confirmFirst is how long etcd has to confirm the watches before another attempt is made beside; the next comes after
	// twice as long. After confirmMost the view says that it cannot connect.
	confirmFirst = 500 * time.Millisecond
	confirmMost  = 3 * time.Second

	// fewAttempts is how many attempts of one view may be waiting for etcd's word without further thought; each one more
	// is made nextAttempt after the one before.
	fewAttempts = 4
	nextAttempt = 10 * time.Second
)

// response is what one of several watches brought.
type response struct {
	watch int // its number
	clientv3.WatchResponse
}

var (
	errClosed       = errors.New("watch closed by the client")
	errNotConfirmed = errors.New("etcd did not confirm the watch in time")
)

// attempt is the opening of a view's watches.
//
// It is never called off before etcd has answered. client/v3 keeps a stream for ever whose only watch was given up before
// it was confirmed; so an attempt that took too long goes on by itself, and its watches are closed once they are open. It
// ends with the client at the latest.
type attempt struct {
	since     time.Time // when it was started
	stream    int64
	cancel    context.CancelFunc
	responses <-chan clientv3.WatchResponse // of the only watch
	merged    <-chan response               // of several
	ended     atomic.Bool                   // one of several has, by itself
	tally     *tally                        // of the stream
	confirmed int64                         // what it was when the watches were
	forwards  sync.WaitGroup
	err       error
}

// start makes an attempt and offers it on opened, until superseded is closed.
func start(h *hub, rng Range, stream int64, opened chan<- *attempt, superseded <-chan struct{}) {
	a := &attempt{since: time.Now(), stream: stream}
	ctx, cancel := context.WithCancel(h.streamContext(context.Background(), stream))
	a.cancel, a.tally = cancel, &tally{Context: ctx}
	go func() {
		a.open(a.tally, h.client, rng)
		if a.err != nil {
			a.close()
		}
		select {
		case opened <- a:
		case <-superseded:
			a.close()
		}
	}()
}

// open opens the watches from now on, side by side, and returns when etcd has answered for every one.
func (a *attempt) open(ctx context.Context, client *clientv3.Client, rng Range) {
	var (
		opening  sync.WaitGroup
		mu       sync.Mutex
		channels []clientv3.WatchChan // guarded by mu
	)
	for key, opts := range rng.watches() {
		opening.Go(func() {
			// Not in fragments: to cut a response etcd measures it anew for each event, and 20,000 deletions in one
			// revision keep a stream busy for ten seconds. Whole, they take a tenth of one.
			ch := client.Watcher.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
			err := confirmed(ch)
			mu.Lock()
			defer mu.Unlock()
			channels = append(channels, ch)
			if a.err == nil {
				a.err = err
			}
		})
	}
	opening.Wait()
	a.confirmed = a.tally.opened()
	switch {
	case a.err != nil:
	case len(channels) == 1:
		a.responses = channels[0]
	default:
		a.merged = a.merge(ctx, channels)
	}
}

// close ends the watches.
func (a *attempt) close() {
	a.cancel()
	a.forwards.Wait()
}

// confirmed waits for the first response of a watch, which confirms it.
func confirmed(ch clientv3.WatchChan) error {
	resp, open := <-ch
	if !open {
		return errClosed
	}
	return typed(resp.Err())
}

// typed gives an error of a watch, which may be nothing but text, the type that it has elsewhere.
func typed(err error) error {
	if known := retry.EtcdError(err); known != nil {
		return known
	}
	return err
}

// merge brings several watches' responses into one channel. Responses of different watches have no order among
// each other. A watch that ends without a word is given one, which ends the view's reading of them all.
func (a *attempt) merge(ctx context.Context, channels []clientv3.WatchChan) <-chan response {
	out := make(chan response)
	for i, ch := range channels {
		a.forwards.Go(func() {
			for resp := range ch {
				if resp.Err() != nil {
					a.ended.Store(true)
				}
				select {
				case out <- response{i, resp}:
				case <-ctx.Done():
					return
				}
			}
			if ctx.Err() == nil {
				a.ended.Store(true)
			}
			select {
			case out <- response{i, clientv3.WatchResponse{Canceled: true, CancelReason: errClosed.Error()}}:
			case <-ctx.Done():
			}
		})
	}
	return out
}

// reap ends a stream that may have been opened by a question which came after its last watch had ended: it opens a watch
// there, and closes it.
func reap(h *hub, rng Range, stream int64) {
	superseded := make(chan struct{})
	close(superseded)
	start(h, rng, stream, nil, superseded)
}
