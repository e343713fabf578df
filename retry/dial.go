package retry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

var (
	// ErrConnectTimeout says that there was no connection within Policy.ConnectTimeout. Nothing was sent: it is [Transient].
	ErrConnectTimeout = errors.New("retry: no connection in time")

	// ErrReadTimeout says that a call was not answered within Policy.ReadTimeout, or MaxElapsed if that is less, over all its
	// attempts. What it is in wraps the last attempt's error; a write is [Ambiguous].
	ErrReadTimeout = errors.New("retry: no answer in time")
)

// DialOptions gives p to every call of a clientv3.Client, with nothing to change where it is used:
//
//	clientv3.New(clientv3.Config{Endpoints: endpoints, DialOptions: retry.DialOptions(retry.Policy{})})
//
// Calls with one answer (all but watches, keepalives, snapshots and streamed reads):
//   - the wait for a connection is bounded by ConnectTimeout; then nothing was sent ([ErrConnectTimeout]);
//   - each attempt is bounded by AttemptTimeout, growing, so that the next one meets another endpoint; and all of them, with
//     the waits between, by ReadTimeout ([ErrReadTimeout]);
//   - writes, and reads that are to be linearizable, go out with [clientv3.WithRequireLeader]: a member that has lost
//     its leader refuses them at once instead of holding them for seconds;
//   - reads are tried again after whatever may go away ([Idempotent]); so are grants and revocations of leases, as the client
//     itself does (a grant whose answer was lost leaves a lease behind that ends with its TTL). All other writes are tried
//     again only if nothing was written: if p.Retryable says so, by default [Transient];
//   - a write that was answered with Canceled or DeadlineExceeded is not sent again, as the client by itself does up to a hundred
//     times, but ends as an [Ambiguous] error. Resolve it with [Commit], or repeat it if it is conditional.
//
// For a read, p.Retryable adds to what is tried again. Refused tokens are left to the client, which fetches another.
//
// Streams are bounded in connecting only; whoever reads them bounds the rest. So are calls that walk through the whole database
// or wait for others: defragmentation, hashes, a compaction with WithCompactPhysical, a move of leadership, and the server's own
// lock and election services.
//
// An error that p has a part in wraps etcd's own, so that errors.Is still finds that; its gRPC code is Aborted, which the client
// does not try again. It panics if p is not valid.
func DialOptions(p Policy) []grpc.DialOption {
	if err := p.Validate(); err != nil {
		panic(err)
	}
	d := newDialed(p)
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(d.unary), grpc.WithChainStreamInterceptor(d.stream)}
}

// dialed is a policy as the calls of a client follow it. The client's own interceptors are around these.
type dialed struct {
	connect time.Duration
	reads   Policy // that is, whatever may be repeated
	writes  Policy
}

func newDialed(p Policy) *dialed {
	p = p.resolve()
	d := &dialed{connect: p.ConnectTimeout}
	if p.ReadTimeout > 0 && (p.MaxElapsed == 0 || p.ReadTimeout < p.MaxElapsed) {
		p.MaxElapsed = p.ReadTimeout
	}
	again := p.Retryable
	d.reads, d.writes = p, p
	d.reads.Retryable = func(err error) bool { return !leftToOthers(err) && (Idempotent(err) || again(err)) }
	d.writes.Retryable = func(err error) bool { return !leftToOthers(err) && again(err) }
	return d
}

// unary makes one call.
func (d *dialed) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if exact, ok := ctx.Value(exactKey{}).(*bool); ok {
		*exact = true
	}
	kind := kindOf(method, req)
	if kind.needsLeader {
		ctx = clientv3.WithRequireLeader(ctx)
	}
	left, failing := d.connect, false
	c := call{policy: d.policy(kind), method: method, start: time.Now(), ready: func(ctx context.Context) error {
		var err error
		failing, err = connected(ctx, cc, d.connect, &left)
		return err
	}}
	var from peer.Peer
	opts = append(slices.Clip(opts), grpc.Peer(&from))
	return settle(c.do(ctx, func(ctx context.Context) error {
		if !failing {
			from = peer.Peer{}
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err != nil && from.Addr != nil && isNoLeader(err) {
				c.leaderless.said(from.Addr.String())
			}
			return err
		}
		// All the time for connecting is over, and every endpoint has failed: gRPC then says how, without waiting.
		err := invoke(ctx, method, req, reply, cc, append(slices.Clip(opts), grpc.WaitForReady(false))...)
		if status.Code(err) == codes.Unavailable && !Ambiguous(err) && EtcdError(err) == nil {
			return &connectError{d.connect, err}
		}
		return err
	}))
}

// policy is that of one kind of call.
func (d *dialed) policy(kind methodKind) Policy {
	p := d.writes
	if kind.repeatable {
		p = d.reads
	}
	if kind.unbounded {
		p.AttemptTimeout, p.MaxElapsed = 0, 0 // bounded in connecting, and by ctx
	}
	return p
}

// stream opens a stream.
func (d *dialed) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	left := d.connect
	if _, err := connected(ctx, cc, d.connect, &left); err != nil {
		return nil, err
	}
	return open(ctx, desc, cc, method, opts...)
}

// settle makes the error of a call one that the client hands on as it is.
func settle(err error) error {
	switch e := err.(type) { //nolint:errorlint // the very ones that do made; etcd's own answer goes on as it is
	case *gaveUpError:
		// Below the client, etcd's errors are what came over the wire; above it, they are those of rpctypes.
		e.last, e.doubt = rpctypes.Error(e.last), rpctypes.Error(e.doubt)
		if e.stop == nil && e.late {
			e.stop = ErrReadTimeout
		}
		return &settledError{e}
	case *openError, *connectError:
		return &settledError{e}
	}
	return err
}

// connected waits until cc has a connection. Calls would do so by themselves, but in the time that is for the answer. What it
// waits is taken from left, which was all at first. When that is over and no endpoint can be connected, failing says so: a
// call that does not wait then learns why.
func connected(ctx context.Context, cc *grpc.ClientConn, all time.Duration, left *time.Duration) (failing bool, err error) {
	state := cc.GetState()
	if all <= 0 || state == connectivity.Ready {
		return false, nil
	}
	waiting, cancel := context.WithTimeout(ctx, *left)
	defer cancel()
	defer func(began time.Time) { *left -= time.Since(began) }(time.Now())
	for {
		switch state {
		case connectivity.Idle:
			cc.Connect()
		case connectivity.Connecting, connectivity.TransientFailure:
		case connectivity.Ready, connectivity.Shutdown:
			return false, nil
		}
		if !cc.WaitForStateChange(waiting, state) {
			switch {
			case ctx.Err() != nil:
				return false, nil // the call will say so
			case state == connectivity.TransientFailure:
				return true, nil
			}
			return false, &connectError{all, nil}
		}
		state = cc.GetState()
	}
}

// connectError is ErrConnectTimeout, with the time. Streams are opened again after it: to the client it is Unavailable.
type connectError struct {
	within time.Duration
	cause  error // what gRPC says of the last attempt to connect, if it has ended
}

func (e *connectError) Error() string {
	text := fmt.Sprintf("%v: not within %v, so nothing was sent", ErrConnectTimeout, e.within)
	if e.cause != nil {
		text += fmt.Sprintf(": %v", e.cause)
	}
	return text
}
func (e *connectError) Unwrap() error { return ErrConnectTimeout }
func (e *connectError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// settledError is the end of a call as far as the client is concerned: its code is one that nobody tries again.
type settledError struct{ err error }

func (e *settledError) Error() string { return e.err.Error() }
func (e *settledError) Unwrap() error { return e.err }
func (e *settledError) GRPCStatus() *status.Status {
	return status.New(codes.Aborted, e.err.Error())
}

// leftToOthers reports whether another attempt here is of no use: the client is to fetch another token and to try again with
// that, or all the time for connecting was spent.
func leftToOthers(err error) bool {
	return tokenRefused(err) || errors.Is(err, ErrConnectTimeout)
}

// tokenRefused reports whether a call was refused because of its token alone, which says nothing about the cluster's health.
func tokenRefused(err error) bool {
	known := EtcdError(err)
	return errors.Is(known, rpctypes.ErrInvalidAuthToken) || errors.Is(known, rpctypes.ErrAuthOldRevision) ||
		errors.Is(known, rpctypes.ErrUserEmpty)
}
