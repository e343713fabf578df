package pool_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/pool"
)

// transcript is all that was said, where, by whom.
type transcript struct {
	mu   sync.Mutex // guards buf
	buf  bytes.Buffer
	logs int // lines of the logger
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs++
	return s.buf.Write(p)
}

// say notes a value in every way that it can be printed.
func (s *transcript) say(what string, v any) {
	text, err := json.Marshal(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.buf, "%s: %v %+v %#v %s %q %x %d %s %v\n", what, v, v, v, v, v, v, v, text, err)
}

// failing notes an error, and what it wraps.
func (s *transcript) failing(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		s.say(what, err)
	}
}

// holds reports where a secret is, in any of the ways that it could be written.
func (s *transcript) holds(secret string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret))} {
		if i := bytes.Index(s.buf.Bytes(), []byte(form)); i >= 0 {
			return string(s.buf.Bytes()[max(0, i-200):min(s.buf.Len(), i+len(form)+50)]), true
		}
	}
	return "", false
}

// meter installs a provider of meters once: instruments stay with the first.
var meter = sync.OnceValue(func() *metric.ManualReader {
	reader := metric.NewManualReader()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	return reader
})

// A canary is every password and token of a run that logs all there is to log.
func TestNoPasswordAndNoTokenIsEverSeen(t *testing.T) {
	const canary = "c4n4ry-of-the-m1ne"
	out := &transcript{}
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(out), zap.DebugLevel))
	metrics, spans := meter(), tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	otel.SetTracerProvider(tracer)
	ctx, span := tracer.Tracer("test").Start(t.Context(), "everything")

	g := guard(t, 1, 2*time.Second)
	if _, err := g.root.UserChangePassword(t.Context(), "app", canary); err != nil {
		t.Fatal(err)
	}
	revision := g.revision(t)
	fixed := g.sign("app", revision, time.Now().Add(time.Hour))
	expired := g.sign("app", revision, time.Now().Add(-time.Hour))
	down := g.Endpoint(0)[:len("http://127.0.0.1:")] + "1"
	config := func(change func(*pool.Config)) pool.Config {
		cfg := g.app()
		cfg.Password, cfg.Logger = canary, logger
		cfg.Retry.ConnectTimeout = 500 * time.Millisecond
		change(&cfg)
		out.say("configuration", cfg)
		out.say("its address", &cfg)
		logger.Debug("configuration", zap.Any("any", cfg), zap.Reflect("reflect", cfg), zap.Object("object", cfg))
		return cfg
	}

	// What fails.
	for what, change := range map[string]func(*pool.Config){
		"no plaintext":         func(c *pool.Config) { c.PlaintextCredentials = false },
		"a token, too":         func(c *pool.Config) { c.Token = fixed },
		"no name":              func(c *pool.Config) { c.Username = "" },
		"no endpoint":          func(c *pool.Config) { c.Endpoints = nil },
		"in an endpoint":       func(c *pool.Config) { c.Endpoints = []string{"http://app:" + canary + "@127.0.0.1:1"} },
		"in a bad endpoint":    func(c *pool.Config) { c.Endpoints = []string{"http://app:" + canary + "%@127.0.0.1:1"} },
		"nobody there":         func(c *pool.Config) { c.Endpoints = []string{down} },
		"another user":         func(c *pool.Config) { c.Username = "other" },
		"another password":     func(c *pool.Config) { c.Password = canary + " not" },
		"TLS with a plaintext": func(c *pool.Config) { c.Endpoints = []string{strings.Replace(g.Endpoint(0), "http:", "https:", 1)} },
		"a callback's name and token": func(c *pool.Config) {
			c.Username, c.Password = "", ""
			c.Credentials = func(context.Context) (pool.Credentials, error) {
				answer := pool.Credentials{Username: "app", Password: canary, Token: fixed}
				out.say("credentials", answer)
				out.say("their address", &answer)
				logger.Debug("credentials", zap.Any("any", answer), zap.Object("object", answer))
				return answer, nil
			}
		},
		"a callback's password": func(c *pool.Config) {
			c.Username, c.Password = "", ""
			c.Credentials = func(context.Context) (pool.Credentials, error) {
				return pool.Credentials{Username: "app", Password: canary + " not"}, nil
			}
		},
	} {
		_, err := pool.Open(ctx, config(change))
		out.failing(t, what, err)
	}
	// What works, and then does not.
	for _, what := range []string{"a token", "a password"} {
		change := func(*pool.Config) {}
		if what == "a token" {
			change = func(c *pool.Config) { c.Username, c.Password, c.Token = "", "", fixed }
		}
		p, err := pool.Open(ctx, config(change))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		etcd := p.Client()
		out.say("pool", p)
		out.say("what it does", p.Stats())
		logger.Sugar().Debugf("%+v %#v %v", p, p, p.Stats())
		_, err = etcd.Put(ctx, "elsewhere", "")
		out.failing(t, what+": denied", err)
		out.failing(t, what+": a denied watch", func() error { resp := <-etcd.Watch(ctx, "elsewhere"); return resp.Err() }())
		out.failing(t, what+": denied in Do", p.Do(ctx, func(ctx context.Context, bulk *clientv3.Client) error {
			_, err := bulk.Get(ctx, "elsewhere")
			return err
		}))
		ended, end := context.WithCancel(ctx)
		end()
		_, err = etcd.Put(ended, "k/a", "")
		out.failing(t, what+": ended", err)
		// The tokens of before are refused; another is to be had for the password only.
		if _, err := g.root.UserAdd(t.Context(), "somebody else with "+strings.Fields(what)[1], "x"); err != nil {
			t.Fatal(err)
		}
		_, err = etcd.Put(ctx, "k/a", "")
		if what == "a token" {
			out.failing(t, what+": refused", err)
		} else if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		_, err = etcd.Put(ctx, "k/a", "")
		out.failing(t, what+": closed", err)
	}
	span.End()

	var data metricdata.ResourceMetrics
	if err := metrics.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	out.say("metrics", data)
	n := 0
	for _, s := range spans.Ended() {
		n += len(s.Events())
		out.say("span", tracetest.SpanStubFromReadOnlySpan(s))
	}

	secrets := append(g.desk.tokens(), canary, fixed, expired)
	for _, secret := range secrets {
		if where, ok := out.holds(secret); ok {
			t.Errorf("a secret is seen in: …%s…", where)
		}
	}
	// A search of nothing finds nothing: it must have seen what is no secret.
	for _, seen := range []string{"app", "[redacted]", "configuration", "permission denied", "pool: authenticate as"} {
		if _, ok := out.holds(seen); !ok {
			t.Errorf("%q is nowhere: is there a transcript?", seen)
		}
	}
	if out.logs < 50 || len(data.ScopeMetrics) == 0 || n == 0 || len(secrets) < 5 {
		t.Errorf("%d lines were logged, %d meters, %d events of spans, %d secrets", out.logs, len(data.ScopeMetrics), n, len(secrets))
	}
	t.Logf("%d bytes in %d lines of log, %d meters, %d events of spans, searched for %d secrets", out.buf.Len(), out.logs, len(data.ScopeMetrics), n, len(secrets))
}
