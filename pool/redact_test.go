package pool

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// secrets is a Config that is full of them, and part of whatever a user makes of it.
func secrets() Config {
	return Config{
		Endpoints: []string{"https://app:canary@a:1", "canary@b:1"}, Namespace: "ns/", TLS: &TLSFiles{Key: "key.pem"},
		Username: "app", Password: "canary", Token: "canary",
		Credentials: func(context.Context) (Credentials, error) { return Credentials{}, nil },
	}
}

// shown is v in every way that there is to show something.
func shown(t *testing.T, v any) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
		all[verb] = fmt.Sprintf(verb, v)
		all[verb+" in a list"] = fmt.Sprintf(verb, []any{v})
		all[verb+" in a struct"] = fmt.Sprintf(verb, struct{ V any }{v})
		all[verb+" in a map"] = fmt.Sprintf(verb, map[string]any{"v": v})
	}
	text, err := json.MarshalIndent(map[string]any{"v": v}, "", " ")
	if err != nil {
		t.Errorf("JSON: %v", err)
	}
	all["JSON"] = string(text)
	var out strings.Builder
	for name, enc := range map[string]zapcore.Encoder{
		"zap's JSON":    zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig()),
		"zap's console": zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		out.Reset()
		log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zapcore.DebugLevel))
		log.Debug("any", zap.Any("v", v), zap.Reflect("r", v))
		log.Sugar().Debugw("sugar", "v", v)
		log.Sugar().Debugf("%+v", v)
		all[name] = out.String()
	}
	for name, handler := range map[string]slog.Handler{
		"slog's text": slog.NewTextHandler(&out, nil),
		"slog's JSON": slog.NewJSONHandler(&out, nil),
	} {
		out.Reset()
		slog.New(handler).Info("any", "v", v)
		all[name] = out.String()
	}
	return all
}

func TestWhatMayBePrintedHoldsNoSecret(t *testing.T) {
	t.Parallel()
	cfg := secrets()
	type of struct {
		Config Config
		List   []Config
		Of     *Config
	}
	credentials := Credentials{Username: "app", Password: "canary", Token: "canary"}
	for what, v := range map[string]any{
		"a Config": cfg, "its address": &cfg, "a struct of it": of{cfg, []Config{cfg}, &cfg}, "its public part": cfg.public(),
		"credentials": credentials, "their address": &credentials, "a list of them": []Credentials{credentials},
	} {
		for how, text := range shown(t, v) {
			if strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary")) {
				t.Errorf("%s by %s: %s", what, how, text)
			}
		}
	}
}

func TestWhatIsPrintedSaysWhereToAndAsWhom(t *testing.T) {
	t.Parallel()
	want := `{"endpoints":["https://[redacted]@a:1","[redacted]@b:1"],"namespace":"ns/","tls":{"key":"key.pem"},"username":"app","password":"[redacted]","token":"[redacted]","credentials":"callback"}`
	if got := fmt.Sprint(secrets()); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	// What is not there is not said to be hidden.
	if got, want := at("a:1").String(), `{"endpoints":["a:1"]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := (Credentials{Username: "app", Password: "canary"}).String(), "{Username:app Password:[redacted] Token:}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The fields of p are not exported: fmt does not ask them how they want to be printed.
func TestAPoolMayBePrinted(t *testing.T) {
	t.Parallel()
	p, err := newPool(Config{Endpoints: []string{"localhost:1"}, Username: "app", Password: "canary", PlaintextCredentials: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for how, text := range shown(t, p) {
		if strings.Contains(text, "canary") {
			t.Errorf("%s: %s", how, text)
		}
	}
	if text := fmt.Sprintf("%+v", p); !strings.Contains(text, "localhost:1") {
		t.Errorf("it says nothing: %s", text)
	}
}
