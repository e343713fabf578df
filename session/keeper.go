package session

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Source is where recipes take a session from when they need one. A *[Session] is the source of itself only,
// and of nothing once it has ended. A *[Keeper] opens the next.
type Source interface {
	// Live returns a session that is trusted at this moment. ctx bounds the opening of one.
	Live(ctx context.Context) (*Session, error)
}

// Keeper hands out one session at a time and opens the next when the last was lost, for services that take
// locks request by request for years. It opens none before it is asked, and repairs nothing that was owned: a
// lock whose session was lost is lost. It is safe for concurrent use.
type Keeper struct {
	client *clientv3.Client
	opts   Options

	life   context.Context // ends with Close
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // sessions that are being given back

	turn    chan struct{} // holds one token: whoever has it may touch current and closed
	current *Session
	closed  bool

	once   sync.Once
	result error
}

// NewKeeper returns a keeper that opens sessions with opts, each checked when it is opened. It does no I/O.
func NewKeeper(client *clientv3.Client, opts *Options) *Keeper {
	k := &Keeper{client: client, turn: make(chan struct{}, 1)}
	k.life, k.cancel = context.WithCancelCause(context.Background())
	if opts != nil {
		k.opts = *opts
	}
	k.turn <- struct{}{}
	return k
}

// Live returns the current session, or opens one if there is none that is trusted. ctx bounds the wait. After
// Close it returns [ErrClosed].
func (k *Keeper) Live(ctx context.Context) (*Session, error) {
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if k.closed {
		return nil, ErrClosed
	}
	if k.current != nil {
		if k.current.Context().Err() == nil {
			return k.current, nil
		}
		old := k.current
		k.current = nil
		// Its lease may still live on the server, if only the path was cut: it is given back beside the
		// opening of the next. If that fails the lease expires by itself, so nobody need be told.
		k.work.Go(func() { _ = old.Close(k.life) })
	}
	opening, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(k.life, func() { cancel(ErrClosed) })
	defer stop()
	s, err := Open(opening, k.client, &k.opts)
	if err != nil {
		return nil, err
	}
	k.current = s
	return s, nil
}

// Close closes the current session and lets no other be opened; it returns what [Session.Close] does. Later
// calls return the same.
func (k *Keeper) Close(ctx context.Context) error {
	k.once.Do(func() {
		k.cancel(ErrClosed)
		<-k.turn
		defer func() { k.turn <- struct{}{} }()
		k.closed = true
		if k.current != nil {
			k.result = k.current.Close(ctx)
		}
		k.work.Wait()
	})
	return k.result
}
