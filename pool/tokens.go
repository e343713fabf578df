package pool

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/etcdkit/etcdkit/retry"
)

const (
	// earlier is by which share of its lifetime a JWT is replaced before it expires.
	earlier = 0.25

	// maxTokens is how many tokens a call is tried with, each another than the one before. Every change of the users and roles
	// makes those of before worthless, and a tool makes many in a row. It is as often as clientv3 tries.
	maxTokens = 100

	// settleFirst is how long the third token of a call is left alone before it is used, each later one twice as long, up to
	// settleMost. A member knows a token of etcd's own kind once it has applied what gave it out: one that is behind refuses whatever
	// is brand-new.
	settleFirst = 10 * time.Millisecond
	settleMost  = 500 * time.Millisecond

	// fetchWithin bounds the fetching of a token, which may ask a service far away.
	fetchWithin = 10 * time.Second

	// maxExpiry is the end of the year 9999, in seconds: what is beyond does not expire.
	maxExpiry = 253402300799
)

// tokens is what all connections of a pool authenticate with. clientv3 would have each of its clients fetch tokens of its
// own, from a password or a token that can never change.
type tokens struct {
	ask          func(ctx context.Context) (Credentials, error)
	authenticate func(ctx context.Context, name, password string) (string, error)

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup // of a fetch

	mu       sync.Mutex // guards what is below
	over     bool       // nothing may be fetched any more
	fetching *fetch     // nil if none is
	current  token
	refused  token // the newest one that etcd did not take
	futile   bool  // it was the same text as the one refused before it
}

// fetch is one for whoever waits for it. It is nobody's own, so nobody's deadline ends it for the others.
type fetch struct {
	done  chan struct{} // then the rest is there
	token token
	err   error
}

// token is one that etcd takes, perhaps.
type token struct {
	text    string
	number  int       // counts them; 0 is none
	replace time.Time // from then on another is to be had; zero if that is not known
	expires time.Time // from then on it is of no use; zero if that is not known
}

// newTokens returns the tokens of a Config; nil if it has no credentials.
func newTokens(cfg Config, authenticate func(ctx context.Context, name, password string) (string, error)) *tokens {
	ask := cfg.Credentials
	if ask == nil {
		fixed := Credentials{Username: cfg.Username, Password: cfg.Password, Token: cfg.Token}
		if fixed == (Credentials{}) {
			return nil
		}
		ask = func(context.Context) (Credentials, error) { return fixed, nil }
	}
	t := &tokens{ask: ask, authenticate: authenticate}
	t.life, t.end = context.WithCancel(context.Background())
	return t
}

// close ends a fetch, and waits for it.
func (t *tokens) close() {
	if t == nil {
		return
	}
	t.end()
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.work.Wait()
}

// get returns a token that is not known to be stale; at most one is being fetched at a time. While another is being fetched
// before the time, and if that fails, the one of before will do.
func (t *tokens) get(ctx context.Context) (token, error) {
	t.mu.Lock()
	now, f := t.current, t.fetching
	switch {
	case now.fresh():
		t.mu.Unlock()
		return now, nil
	case t.over:
		t.mu.Unlock()
		return token{}, ErrClosed
	case f == nil:
		f = &fetch{done: make(chan struct{})}
		t.fetching = f
		t.work.Go(func() { t.renew(f) })
	}
	t.mu.Unlock()
	if now.usable() {
		return now, nil
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return token{}, context.Cause(ctx)
	}
}

// renew fetches a token.
func (t *tokens) renew(f *fetch) {
	ctx, cancel := context.WithTimeout(t.life, fetchWithin)
	defer cancel()
	text, err := t.fetch(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(f.done)
	t.fetching = nil
	switch {
	case err == nil:
		t.current = newToken(text, t.current.number+1, time.Now())
	case t.current.usable():
		t.current.replace = earlierThan(t.current.expires, time.Now()) // not at every call
	default:
		f.err = err
		return
	}
	f.token = t.current
}

// fetch asks for credentials, and turns a password into a token.
func (t *tokens) fetch(ctx context.Context) (string, error) {
	c, err := t.ask(ctx)
	if err != nil {
		return "", fmt.Errorf("pool: Config.Credentials: %w", err)
	}
	switch {
	case c.Token != "" && (c.Username != "" || c.Password != ""):
		return "", errors.New("pool: Config.Credentials returned a name and a token: only one of them can be meant")
	case c.Token != "":
		return c.Token, nil
	case c.Username == "" || c.Password == "":
		return "", errors.New("pool: Config.Credentials returned neither a token nor a name and password")
	}
	text, err := t.authenticate(context.WithValue(ctx, bare{}, true), c.Username, c.Password)
	if errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return "", nil // a cluster that asks for none
	}
	if err != nil {
		return "", fmt.Errorf("pool: authenticate as %q: %w", c.Username, err)
	}
	return text, nil
}

// refuse notes that etcd has refused a token, so that the next one is fetched, unless it was already. It reports whether
// that may help: not if the very same text has been fetched and refused twice running.
func (t *tokens) refuse(tok token) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.number == tok.number {
		t.current.replace, t.current.expires = time.Now(), time.Now()
	}
	// All calls that were in flight come back with one and the same token: only the first of them says something.
	if tok.number > t.refused.number {
		t.futile = t.refused.number > 0 && t.refused.text == tok.text
		t.refused = tok
	}
	return tok.number < t.refused.number || !t.futile
}

func (t *tokens) now() token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// newToken is a token that was just fetched. Only a JWT says when it expires; for etcd's own tokens that is known when one is
// refused. So it is for one that seems to have expired already: then some clock is wrong.
func newToken(text string, number int, now time.Time) token {
	t := token{text: text, number: number}
	if expires := expiryOf(text); expires.After(now) {
		t.expires, t.replace = expires, earlierThan(expires, now)
	}
	return t
}

// fresh reports whether there is no reason yet to fetch another.
func (t token) fresh() bool {
	return t.number > 0 && (t.replace.IsZero() || time.Now().Before(t.replace))
}

// usable reports whether etcd is likely to take it still.
func (t token) usable() bool {
	return t.number > 0 && time.Now().Before(t.expires)
}

// expiryOf is when a JWT expires; the zero time for anything else.
func expiryOf(text string) time.Time {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expires <= 0 || claims.Expires > maxExpiry {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expires), 0)
}

// earlierThan is when to replace what expires.
func earlierThan(expires, now time.Time) time.Time {
	return now.Add(time.Duration((1 - earlier) * float64(expires.Sub(now))))
}

// carry puts a token into the metadata of a call.
func (t *tokens) carry(ctx context.Context) (context.Context, token, error) {
	if t == nil || ctx.Value(bare{}) != nil {
		return ctx, token{}, nil
	}
	tok, err := t.get(ctx)
	if err != nil || tok.text == "" {
		return ctx, tok, err
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, tok.text), tok, nil
}

// unary has a call carry a token, and once more with another if etcd refuses that.
func (t *tokens) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	for tried := 1; ; tried++ {
		carrying, tok, err := t.carry(ctx)
		if err == nil {
			err = settle(ctx, tried)
		}
		if err != nil {
			return err
		}
		err = invoke(carrying, method, req, reply, cc, opts...)
		if err == nil || tok.number == 0 || !refused(err) {
			return err
		}
		if again := t.refuse(tok); !again || tried == maxTokens {
			// In words that clientv3 does not take for a token to be replaced, which it would try a hundred times.
			return fmt.Errorf("pool: a fresh token was refused: %w", err)
		}
	}
}

// settle gives members time to learn of a token that follows so many refused ones, itself included. It returns ctx's cause, if ctx ends.
func settle(ctx context.Context, tried int) error {
	if tried < 3 {
		return nil
	}
	wait := settleMost
	if doublings := tried - 3; doublings < 10 && settleFirst<<doublings < settleMost {
		wait = settleFirst << doublings
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refused reports whether etcd has refused a token: it never had it, has forgotten it, or it is from before a change of the
// users and roles.
func refused(err error) bool {
	known := retry.EtcdError(err)
	return errors.Is(known, rpctypes.ErrInvalidAuthToken) || errors.Is(known, rpctypes.ErrAuthOldRevision) ||
		errors.Is(known, rpctypes.ErrUserEmpty)
}

// authenticateBy fetches tokens through a client.
func authenticateBy(client *clientv3.Client) func(ctx context.Context, name, password string) (string, error) {
	return func(ctx context.Context, name, password string) (string, error) {
		resp, err := client.Auth.Authenticate(ctx, name, password)
		if err != nil {
			return "", err
		}
		return resp.Token, nil
	}
}
