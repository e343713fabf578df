package pool

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// issuer is what a cluster does about tokens: it hands them out, and takes the newest only.
type issuer struct {
	mu       sync.Mutex // guards what is below
	issued   int
	inFlight int
	most     int // in flight at once
	valid    string
	life     time.Duration // of JWTs; zero for tokens that do not say
	takes    time.Duration
	err      error
}

func (i *issuer) authenticate(ctx context.Context, name, _ string) (string, error) {
	i.mu.Lock()
	i.issued++
	i.inFlight++
	i.most = max(i.most, i.inFlight)
	text, err := fmt.Sprintf("%s.%d", name, i.issued), i.err
	if i.life != 0 {
		text = jwt(time.Now().Add(i.life), i.issued)
	}
	takes := i.takes
	i.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inFlight--
	if err != nil {
		return "", err
	}
	i.valid = text
	return text, nil
}

// invoke is a call that the cluster answers.
func (i *issuer) invoke(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if got := md.Get(rpctypes.TokenFieldNameGRPC); len(got) != 1 || got[0] != i.valid {
		return rpctypes.ErrGRPCInvalidAuthToken
	}
	return nil
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) count() (issued, most int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued, i.most
}

// call makes a call with a token.
func call(ctx context.Context, t *tokens, i *issuer) error {
	return t.unary(ctx, "/etcdserverpb.KV/Put", nil, nil, nil, i.invoke)
}

// jwt is a token that expires, as etcd and others make them.
func jwt(expires time.Time, number int) string {
	enc := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"username":"app","revision":%d,"exp":%d}`, number, expires.Unix())
	return enc([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

func byName(i *issuer) *tokens {
	return newTokens(Config{Username: "app", Password: "secret"}, i.authenticate)
}

func TestNoCredentialsNoTokens(t *testing.T) {
	t.Parallel()
	tokens := newTokens(Config{}, nil)
	if tokens != nil {
		t.Fatal("tokens of nothing")
	}
	ctx, tok, err := tokens.carry(t.Context()) // which nil can do
	if ctx != t.Context() || tok.number != 0 || err != nil {
		t.Error(ctx, tok, err)
	}
}

func TestOneTokenServesAllCallsAndIsFetchedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{takes: 100 * time.Millisecond}
		tokens := byName(i)
		for range 3 {
			var all sync.WaitGroup
			for range 64 {
				all.Go(func() {
					if err := call(t.Context(), tokens, i); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			i.set(func() { i.valid = "" }) // the cluster has forgotten it, and refuses all 64 at once
		}
		if issued, most := i.count(); issued != 3 || most != 1 {
			t.Errorf("%d tokens were fetched for three generations, %d at once", issued, most)
		}
	})
}

func TestAJWTIsReplacedBeforeItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: 2 * time.Second}
		tokens := byName(i)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
			tok, err := tokens.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if at := expiryOf(tok.text); !at.After(time.Now()) {
				t.Fatalf("a token that expired %v ago", time.Since(at))
			}
		}
		// Each lives one to two seconds, as etcd cuts that to a whole one.
		if issued, _ := i.count(); issued < 30 || issued > 70 {
			t.Errorf("%d tokens in a minute", issued)
		}
	})
}

func TestAJWTServesOnWhileAnotherCannotBeHad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: 100 * time.Second}
		tokens := byName(i)
		first, err := tokens.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		down := errors.New("no leader")
		i.set(func() { i.err = down })
		for time.Now().Before(first.expires.Add(-time.Millisecond)) {
			if tok, err := tokens.get(t.Context()); err != nil || tok.text != first.text {
				t.Fatalf("%v before it expires: %v %v", time.Until(first.expires), tok, err)
			}
			<-time.After(time.Millisecond)
		}
		// Each failure makes the next one wait for three quarters of what is left.
		if issued, _ := i.count(); issued > 15 {
			t.Errorf("asked %d times", issued)
		}
		<-time.After(time.Second)
		if _, err := tokens.get(t.Context()); !errors.Is(err, down) {
			t.Errorf("once it has expired: %v", err)
		}
		i.set(func() { i.err = nil })
		if tok, err := tokens.get(t.Context()); err != nil || tok.text == first.text {
			t.Error(tok, err)
		}
	})
}

func TestNobodyWaitsForATokenWhileThereIsAGoodOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: 100 * time.Second}
		tokens := byName(i)
		first, err := tokens.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Until(first.replace))
		i.set(func() { i.takes = 5 * time.Second })
		fetched := make(chan error)
		go func() {
			_, err := tokens.get(t.Context())
			fetched <- err
		}()
		synctest.Wait()
		began := time.Now()
		for range 10 {
			if tok, err := tokens.get(t.Context()); err != nil || tok.text != first.text {
				t.Error(tok, err)
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("waited %v for a token, and had one", waited)
		}
		if err := <-fetched; err != nil {
			t.Error(err)
		}
		<-time.After(5 * time.Second)
	})
}

// The clock of this machine may be ahead of etcd's by more than a token's life.
func TestATokenThatSeemsToHaveExpiredIsUsedUntilItIsRefused(t *testing.T) {
	t.Parallel()
	i := &issuer{life: -time.Minute}
	tokens := byName(i)
	for range 100 {
		if err := call(t.Context(), tokens, i); err != nil {
			t.Fatal(err)
		}
	}
	if issued, _ := i.count(); issued != 1 {
		t.Errorf("%d tokens for 100 calls", issued)
	}
	i.set(func() { i.valid = "" })
	if err := call(t.Context(), tokens, i); err != nil {
		t.Error(err)
	}
}

func TestATokenThatCannotBeReplacedIsTriedTwiceAndTheErrorIsEtcds(t *testing.T) {
	t.Parallel()
	asked := 0
	tokens := newTokens(Config{Token: "fixed"}, nil)
	ask := tokens.ask
	tokens.ask = func(ctx context.Context) (Credentials, error) { asked++; return ask(ctx) }
	i := &issuer{valid: "another"}
	for range 5 {
		before := asked
		err := call(t.Context(), tokens, i)
		if !refused(err) || !strings.Contains(err.Error(), "a fresh token was refused") {
			t.Fatal(err)
		}
		if n := asked - before; n > 2 {
			t.Errorf("the token was fetched %d times for one call", n)
		}
	}
	// As when the cluster was unreachable for the one that issues them, and now it is not.
	i.set(func() { i.valid = "fixed" })
	if err := call(t.Context(), tokens, i); err != nil {
		t.Error(err)
	}
}

// Users and roles are changed several times running: what was fetched a moment ago is from before the change again.
func TestEveryTokenMayBeRefusedAndACallGoesOnForSomeTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, everyTokenMayBeRefused)
}

func everyTokenMayBeRefused(t *testing.T) {
	changes := 5
	i := &issuer{}
	tokens := byName(i)
	invoke := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		if changes--; changes >= 0 {
			return rpctypes.ErrGRPCAuthOldRevision
		}
		return i.invoke(ctx, method, req, reply, cc, opts...)
	}
	if err := tokens.unary(t.Context(), "/etcdserverpb.KV/Put", nil, nil, nil, invoke); err != nil {
		t.Error(err)
	}
	changes = 1e6 // for ever
	if err := tokens.unary(t.Context(), "/etcdserverpb.KV/Put", nil, nil, nil, invoke); !refused(err) {
		t.Error(err)
	}
}

// A member that is behind refuses every token until it has applied what gave it out. It is not given one brand-new one after the other.
func TestAMemberThatIsBehindTakesATokenThatHasSettled(t *testing.T) {
	t.Parallel()
	for _, behind := range []time.Duration{5 * time.Millisecond, 200 * time.Millisecond, 450 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			i := &issuer{}
			given := map[string]time.Time{}
			tokens := newTokens(Config{Username: "app", Password: "secret"}, func(ctx context.Context, name, password string) (string, error) {
				text, err := i.authenticate(ctx, name, password)
				given[text] = time.Now()
				return text, err
			})
			invoke := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
				md, _ := metadata.FromOutgoingContext(ctx)
				if got := md.Get(rpctypes.TokenFieldNameGRPC); time.Since(given[got[0]]) < behind {
					return rpctypes.ErrGRPCInvalidAuthToken
				}
				return i.invoke(ctx, method, req, reply, cc, opts...)
			}
			began := time.Now()
			if err := tokens.unary(t.Context(), "/etcdserverpb.KV/Put", nil, nil, nil, invoke); err != nil {
				t.Errorf("%v behind: %v", behind, err)
			}
			issued, _ := i.count()
			t.Logf("%v behind: %d tokens, in %v", behind, issued, time.Since(began))
			if took := time.Since(began); took > 4*behind || issued > 10 {
				t.Errorf("%v behind: %d tokens, in %v", behind, issued, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			given = map[string]time.Time{}
			i.set(func() { i.valid = "another" })
			behind = time.Hour
			if err := tokens.unary(ctx, "/etcdserverpb.KV/Put", nil, nil, nil, invoke); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("its context has ended, and it says %v", err)
			}
		})
	}
}

func TestWhoeverWaitsForATokenCanBeCancelledAndTheNextOneFetchesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{takes: 2 * time.Second}
		tokens := byName(i)
		why := errors.New("no longer wanted")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := tokens.get(ctx); err == nil {
				t.Error("the one that fetches outlives its context")
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := tokens.get(ctx); !errors.Is(err, why) {
				t.Errorf("one that waits: %v", err)
			}
		})
		all.Go(func() {
			if tok, err := tokens.get(t.Context()); err != nil {
				t.Error(tok, err)
			}
		})
		all.Wait()
	})
}

func TestACallbackMayReturnATokenOrANameAndNothingElse(t *testing.T) {
	t.Parallel()
	i := &issuer{}
	down := errors.New("the vault is sealed")
	for _, c := range []struct {
		what   string
		answer Credentials
		err    error
		want   string
	}{
		{"a name", Credentials{Username: "app", Password: "canary"}, nil, ""},
		{"a token", Credentials{Token: "canary"}, nil, ""},
		{"nothing", Credentials{}, nil, "neither a token nor a name and password"},
		{"half", Credentials{Username: "app"}, nil, "neither a token nor a name and password"},
		{"the other half", Credentials{Password: "canary"}, nil, "neither a token nor a name and password"},
		{"both", Credentials{Username: "app", Password: "canary", Token: "canary"}, nil, "a name and a token"},
		{"an error", Credentials{}, down, "Config.Credentials: the vault is sealed"},
	} {
		tokens := newTokens(Config{Credentials: func(context.Context) (Credentials, error) { return c.answer, c.err }}, i.authenticate)
		_, err := tokens.get(t.Context())
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.what, err)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the error tells: %v", c.what, err)
		case c.err != nil && !errors.Is(err, c.err):
			t.Errorf("%s: the callback's error is lost: %v", c.what, err)
		}
	}
}

func TestAClusterWithoutAuthenticationGetsNoToken(t *testing.T) {
	t.Parallel()
	i := &issuer{err: rpctypes.ErrAuthNotEnabled}
	tokens := byName(i)
	for range 3 {
		ctx, tok, err := tokens.carry(t.Context())
		if md, ok := metadata.FromOutgoingContext(ctx); err != nil || tok.text != "" || ok {
			t.Fatal(md, tok, err)
		}
	}
	if issued, _ := i.count(); issued != 1 {
		t.Errorf("asked %d times", issued)
	}
	// It is enabled: the first call says so, and is made again.
	i.set(func() { i.err = nil })
	if err := call(t.Context(), tokens, i); err != nil {
		t.Error(err)
	}
}

func TestWhatAskesForATokenCarriesNone(t *testing.T) {
	t.Parallel()
	i := &issuer{}
	tokens := newTokens(Config{Username: "app", Password: "secret"}, func(ctx context.Context, name, password string) (string, error) {
		if ctx.Value(bare{}) == nil {
			t.Error("it would wait for the token that it is to fetch")
		}
		return i.authenticate(ctx, name, password)
	})
	if err := call(t.Context(), tokens, i); err != nil {
		t.Error(err)
	}
}

func TestWhenAJWTExpiresIsReadAndNothingElseIsTakenForOne(t *testing.T) {
	t.Parallel()
	enc := base64.RawURLEncoding.EncodeToString
	claims := func(text string) string { return "e30." + enc([]byte(text)) + ".c2ln" }
	at := time.Unix(1_900_000_000, 0)
	for text, want := range map[string]time.Time{
		jwt(at, 1):                         at,
		claims(`{"exp":1900000000}`):       at,
		claims(`{"exp":1.9e9}`):            at,
		claims(`{"exp":1900000000.9}`):     at,
		"":                                 {},
		"...":                              {},
		"a.b.c":                            {},
		"simple.17":                        {},
		"abcdefghij.12345":                 {},
		claims(`{}`):                       {},
		claims(`{"exp":null}`):             {},
		claims(`{"exp":0}`):                {},
		claims(`{"exp":-1}`):               {},
		claims(`{"exp":"1900000000"}`):     {},
		claims(`{"exp":1e300}`):            {},
		claims(`{"exp":9e18}`):             {},
		claims(`[1,2]`):                    {},
		claims(`"exp"`):                    {},
		claims("\xff\xfe"):                 {},
		claims(`{"exp":1900000000`):        {},
		claims(`{"exp":1900000000}`) + ".": {},
		"!." + enc([]byte(`{"exp":1}`)):    {},
		"e30.{\"exp\":1900000000}.c2ln":    {},
		"e30.====.c2ln":                    {},
		strings.Repeat(".", 1000):          {},
	} {
		if got := expiryOf(text); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func FuzzExpiryOf(f *testing.F) {
	f.Add(jwt(time.Unix(1_900_000_000, 0), 1))
	f.Add("simple.17")
	f.Add("a.eyJleHAiOjFlMzAwfQ.c")
	f.Fuzz(func(t *testing.T, text string) {
		tok := newToken(text, 1, time.Now())
		if !tok.replace.IsZero() && !tok.replace.After(time.Now().Add(-time.Minute)) {
			t.Errorf("%q: to be replaced at %v, before it was fetched", text, tok.replace)
		}
	})
}
