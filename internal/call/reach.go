package call

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/retry"
)

// lookTimeout bounds a look at one endpoint. It is for an error message, so it is short.
const lookTimeout = 150 * time.Millisecond

// ErrUnreachable says that no endpoint accepted a connection, or that none that did has answered.
var ErrUnreachable = errors.New("etcd is unreachable")

// Explain adds to a failure what the client hides. clientv3 answers a refused connection and a dead network
// alike with "context deadline exceeded"; so the endpoints are looked at, and named with what they did.
func Explain(ctx context.Context, client *clientv3.Client, err error) error {
	if errors.Is(err, ErrUnreachable) || !silent(err) {
		return err
	}
	if len(client.Endpoints()) == 0 {
		return err
	}
	findings := look(ctx, client.Endpoints())
	return fmt.Errorf("%w (%s): %w", ErrUnreachable, strings.Join(findings.lines, "; "), err)
}

// Refused returns an error that names every endpoint if each of them refuses connections, which no waiting for an
// answer can mend, and nil otherwise. One that is merely slow to accept refuses nothing.
func Refused(ctx context.Context, endpoints []string) error {
	if len(endpoints) == 0 {
		return nil
	}
	findings := look(ctx, endpoints)
	if findings.refusing == len(endpoints) && ctx.Err() == nil {
		return fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(findings.lines, "; "))
	}
	return nil
}

// Away reports whether a failure says that etcd could not be reached, or could not answer: it was not refused.
func Away(err error) bool { return retry.Idempotent(err) || errors.Is(err, ErrUnreachable) }

// silent reports whether err is the kind that hides its cause: no answer in time, or no connection.
func silent(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	s, ok := status.FromError(err)
	return ok && (s.Code() == codes.DeadlineExceeded || s.Code() == codes.Unavailable)
}

// findings is what a look at the endpoints saw, a line each.
type findings struct {
	lines    []string
	refusing int
}

// look opens and closes a connection to every endpoint, side by side.
func look(ctx context.Context, endpoints []string) findings {
	// The caller's deadline is often over when its error is explained, so the look has one of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	f := findings{lines: make([]string, len(endpoints))}
	errs := make([]error, len(endpoints))
	var dials sync.WaitGroup
	for i, endpoint := range endpoints {
		dials.Go(func() { errs[i] = dial(ctx, endpoint) })
	}
	dials.Wait()
	for i, endpoint := range endpoints {
		switch {
		case errors.Is(errs[i], errOpaque):
			f.lines[i] = endpoint + " does not answer"
		case errs[i] == nil:
			f.lines[i] = endpoint + " accepts connections but does not answer"
		case timedOut(errs[i]):
			f.lines[i] = endpoint + " does not accept connections in time"
		default:
			f.refusing++
			f.lines[i] = fmt.Sprintf("%s: %v", endpoint, errs[i])
		}
	}
	return f
}

// timedOut reports whether a dial was too slow. The dialler's own deadline may end a moment before the context's.
func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// errOpaque stands for an endpoint that gRPC resolves in a way of its own.
var errOpaque = errors.New("not an address")

// dial tries a connection to an endpoint as clientv3 writes them: host:port, http or https with a host and
// port, or a unix socket.
func dial(ctx context.Context, endpoint string) error {
	network, address := "tcp", endpoint
	if u, err := url.Parse(endpoint); err == nil && strings.Contains(endpoint, "://") {
		switch u.Scheme {
		case "http", "https":
			address = u.Host
		case "unix", "unixs":
			network, address = "unix", u.Host+u.Path
		default:
			return errOpaque
		}
	} else if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		network, address = "unix", path
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}
