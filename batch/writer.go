package batch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// Writer sends puts and deletes of single keys in as few transactions as it can. It is safe for concurrent use. Close it to
// have everything sent.
//
// It has no goroutine of its own but one for each transaction in flight: whatever may make a transaction due (an
// operation, an answer, the timer, somebody who waits) calls launch.
type Writer struct {
	kv   clientv3.KV
	opts Options             // with defaults
	puts []clientv3.OpOption // of every put

	life    context.Context // what transactions are sent under; ends when Close gives up
	abandon context.CancelCauseFunc
	flights sync.WaitGroup // one for each transaction in flight

	closing chan struct{} // closed by the first Close
	closed  chan struct{} // closed when result is there
	result  error         // of Close; read after closed

	mu       sync.Mutex // guards what is below, and is never held while anything is waited for
	buffer   buffer
	room     room
	flying   int         // transactions in flight
	timer    *time.Timer // calls tick
	armed    bool        // the timer runs
	flushes  []*flush    // those that wait
	failures failures    // that nobody was told of yet
	ended    bool        // closing is closed
}

// New returns a Writer over kv: a *clientv3.Client, or anything that wraps its KV. An error names the rule that an option
// breaks.
func New(kv clientv3.KV, opts *Options) (*Writer, error) {
	o, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	w := &Writer{
		kv:      kv,
		opts:    o,
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
		buffer:  buffer{maxOps: o.MaxOps, maxBytes: o.MaxBytes, interval: o.Interval, keys: make(map[string]*write)},
		room:    room{free: o.MaxBuffered},
	}
	if o.Lease != 0 {
		w.puts = []clientv3.OpOption{clientv3.WithLease(o.Lease)}
	}
	// A member that has lost its leader refuses at once, instead of keeping the transaction until its fate is unknown.
	w.life, w.abandon = context.WithCancelCause(clientv3.WithRequireLeader(context.Background()))
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Stop()
	return w, nil
}

// Put buffers a put. ctx bounds the wait for room in a full buffer and nothing else: what was taken is sent even if ctx
// ends.
//
// An error means that the operation was not taken and will not be sent: [ErrTooLarge], [ErrClosed], that of ctx, or one
// that is rpctypes.ErrEmptyKey.
func (w *Writer) Put(ctx context.Context, key, value string) (Pending, error) {
	return w.add(ctx, write{key: key, value: value, size: putSize(key, value, w.opts.Lease)})
}

// Delete buffers the deletion of one key, as [Writer.Put] does a put.
func (w *Writer) Delete(ctx context.Context, key string) (Pending, error) {
	return w.add(ctx, write{key: key, deletes: true, size: deleteSize(key)})
}

func (w *Writer) add(ctx context.Context, op write) (Pending, error) {
	switch {
	case op.key == "":
		return Pending{}, fmt.Errorf("batch: an operation without a key: %w", rpctypes.ErrEmptyKey)
	case op.size > w.opts.MaxBytes:
		return Pending{}, fmt.Errorf("%w: %.128q takes %d bytes, a transaction at most %d (Options.MaxBytes)",
			ErrTooLarge, op.key, op.size, w.opts.MaxBytes)
	case ctx.Err() != nil:
		return Pending{}, fmt.Errorf("batch: %.128q was not taken: %w", op.key, cause.Of(ctx))
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return Pending{}, ErrClosed
	}
	if g := w.room.take(cost(&op)); g != nil {
		w.launch() // somebody waits
		if err := w.stand(ctx, g); err != nil {
			return Pending{}, fmt.Errorf("batch: %.128q was not taken: %w", op.key, err)
		}
	}
	taken, replaced := w.buffer.add(op, time.Now())
	if replaced >= 0 {
		w.room.give(replaced + writeCost)
	}
	w.launch()
	return Pending{writer: w, write: taken, number: taken.made}, nil
}

// stand waits in line for room, without the mutex that it is called with.
func (w *Writer) stand(ctx context.Context, g *guest) (err error) {
	w.mu.Unlock()
	select {
	case <-g.let:
	case <-w.closing:
	case <-ctx.Done():
		err = fmt.Errorf("no room in the buffer: %w", cause.Of(ctx))
	}
	w.mu.Lock()
	if w.ended {
		err = ErrClosed
	}
	if err != nil {
		w.room.leave(g)
	}
	return err
}

// cost is what a write takes of the room.
func cost(w *write) int { return w.size + writeCost }

// tick is called by the timer.
func (w *Writer) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.launch()
}

// launch sends what is due, as long as there is a free place in flight. Otherwise it sees to it that it is called again in
// time: by the timer or, when all places are taken, by the transaction that lands next. mu is held.
func (w *Writer) launch() {
	// Whoever waits is not to wait for company too. This includes who waits for room: the buffer may be full of
	// operations that are, by themselves, in no hurry.
	urgent := len(w.flushes) > 0 || len(w.room.line) > 0
	now := time.Now()
	if w.life.Err() != nil {
		return // Close has given up, and is about to drop what is here
	}
	for w.flying < w.opts.InFlight && w.buffer.due(now, urgent) {
		cargo := w.buffer.cut()
		w.flying++
		w.flights.Go(func() { w.fly(cargo) })
	}
	if w.flying < w.opts.InFlight && len(w.buffer.ready) > 0 && !w.armed {
		w.armed = true
		w.timer.Reset(w.buffer.wait(now))
	}
}
