package config_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	serverconfig "go.etcd.io/etcd/server/v3/config"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// service is a document as services have it.
type service struct {
	Addr    string            `json:"addr"`
	Timeout time.Duration     `json:"timeout"`
	Level   zapcore.Level     `json:"level"`
	Limits  map[string]int    `json:"limits"`
	Peers   []string          `json:"peers"`
	Labels  map[string]string `json:"labels,omitempty"`
}

var aService = service{
	Addr:    ":8080",
	Timeout: 30 * time.Second,
	Level:   zapcore.WarnLevel,
	Limits:  map[string]int{"rate": 100},
	Peers:   []string{"a", "b"},
}

// reads opens a key that holds a document, and expects the value that a person means by it.
func reads[T any](name, document string, want T) (string, func(*testing.T)) {
	return name, func(t *testing.T) {
		t.Parallel()
		cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"document"
		revision := put(t, cli, key, document)
		v := open[T](t, cli, key, nil)
		if got := v.Get(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %#v, want %#v", document, got, want)
		}
		s := v.Snapshot()
		if s.Revision != revision || s.Generation != 0 || s.Source != config.Live || v.Err() != nil {
			t.Errorf("revision %d (put as %d), %v, %v", s.Revision, revision, s.Source, v.Err())
		}
		if age := time.Since(s.SyncedAt); age < 0 || age > soon {
			t.Errorf("synced %v ago", age)
		}
	}
}

func TestDocumentsMeanWhatPeopleMeanByThem(t *testing.T) {
	t.Parallel()
	t.Run(reads("an int", "8080", 8080))
	t.Run(reads("an int of echo", "8080\n", 8080))
	t.Run(reads("a string", "info", "info"))
	t.Run(reads("a string that looks like a number", "8080", "8080"))
	t.Run(reads("a duration", "30s", 30*time.Second))
	t.Run(reads("a bool", "true", true))
	t.Run(reads("a float", "0.25", 0.25))
	t.Run(reads("a type with UnmarshalText", "warn", zapcore.WarnLevel))
	t.Run(reads("JSON", `{"addr":":8080","timeout":"30s","level":"warn","limits":{"rate":100},"peers":["a","b"]}`, aService))
	t.Run(reads("YAML", "addr: :8080\ntimeout: 30s\nlevel: warn\nlimits:\n  rate: 100\npeers: [a, b]\n", aService))
	t.Run(reads("YAML of a list", "- a\n- b\n", []string{"a", "b"}))
}

// What a document must not do is take the process down, hold up others, or be taken.
func TestHostileDocumentsAreRefusedAndHoldUpNobody(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	put(t, cli, prefix+"hostile", "addr: good")
	put(t, cli, prefix+"other", "0")
	v := open[service](t, cli, prefix+"hostile", nil)
	tree := open[map[string]any](t, cli, prefix+"hostile", nil)
	other := open[int](t, cli, prefix+"other", nil)
	of := changes(t, other)
	next(t, of)

	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, document := range map[string]string{
		"empty":                  "",
		"cut off":                `{"addr":`,
		"another type":           `{"addr": [1,2]}`,
		"two documents":          `{"addr":"a"} {"addr":"b"}`,
		"a key twice":            `{"addr":"a","addr":"b"}`,
		"not UTF-8":              "addr: \xff",
		"a NUL":                  "addr: \x00",
		"an alias bomb":          bomb,
		"an alias of itself":     "addr: &a [*a]",
		"deep JSON":              strings.Repeat(`{"labels":`, 10_000) + strings.Repeat("}", 10_000),
		"deep JSON, never ended": strings.Repeat("[", 1_000_000),
		"deep YAML":              "labels: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"a long number":          `{"limits":{"rate":` + strings.Repeat("9", 1_000_000) + `}}`,
	} {
		revision := put(t, cli, prefix+"hostile", document)
		began := time.Now()
		until(t, v, name+" is refused", refusedAt(revision))
		if name != "another type" { // a tree takes any
			until(t, tree, name+" is refused", refusedAt(revision))
		}
		if took := time.Since(began); took > 3*time.Second { // a tenth of one, but for the race detector
			t.Errorf("%s: refused after %v", name, took)
		}
		if err := v.Err(); len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if got := v.Get(); got.Addr != "good" {
			t.Errorf("%s: the value is %v", name, got)
		}
		put(t, cli, prefix+"other", "1")
		next(t, of)
	}
	put(t, cli, prefix+"hostile", "addr: good again")
	becomes(t, v, nil)
	becomes(t, tree, nil)
	if v.Get().Addr != "good again" {
		t.Errorf("the value is %v", v.Get())
	}
}

// etcd takes 1.5 MiB unless it is told otherwise. Documents are held to that also where it is.
func TestOversizeDocumentsAreRefused(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Server: func(_ int, cfg *serverconfig.ServerConfig) {
		cfg.MaxRequestBytes = 8 << 20
	}})
	cli := c.Client()
	put(t, cli, "document", "small")
	v := open[string](t, cli, "document", nil)
	put(t, cli, "document", strings.Repeat("x", codec.MaxSize+1))
	becomes(t, v, config.ErrRefused)
	put(t, cli, "document", strings.Repeat("x", codec.MaxSize))
	becomes(t, v, nil)
	if len(v.Get()) != codec.MaxSize {
		t.Errorf("%d bytes", len(v.Get()))
	}

	shared, key := etcdtest.Client(t), etcdtest.Prefix(t)+"document"
	if _, err := shared.Put(t.Context(), key, strings.Repeat("x", codec.MaxSize)); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Errorf("etcd took it: %v", err)
	}
}

// A document may be a password. Its reader says where it is wrong, never what is there.
func TestNeitherErrorsNorLogsHoldWhatIsInADocument(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)

	var said []string
	note := func(err error) {
		if err == nil {
			t.Error("a document was taken")
			return
		}
		said = append(said, err.Error(), fmt.Sprintf("%+v", err))
	}
	note(refused[int](t, cli, prefix+"int", log, secret))
	note(refused[int](t, cli, prefix+"quoted", log, `"`+secret+`"`))
	note(refused[bool](t, cli, prefix+"bool", log, secret))
	note(refused[time.Duration](t, cli, prefix+"duration", log, secret))
	note(refused[zapcore.Level](t, cli, prefix+"level", log, secret))
	note(refused[service](t, cli, prefix+"json", log, `{"addr": "a", "timeout": "`+secret+`"}`))
	note(refused[service](t, cli, prefix+"map", log, `{"limits": {"`+secret+`": "`+secret+`"}}`))
	note(refused[service](t, cli, prefix+"yaml", log, "limits: "+secret))
	note(refused[service](t, cli, prefix+"tag", log, "limits: !"+secret+" {}"))
	note(refused[service](t, cli, prefix+"alias", log, "limits: *"+secret))
	note(refused[service](t, cli, prefix+"syntax", log, "\t"+secret+": ["))
	good := open(t, cli, prefix+"good", &config.Options[string]{Logger: log, Default: new(string)})
	put(t, cli, prefix+"good", secret)
	becomes(t, good, nil)
	remove(t, cli, prefix+"good")
	becomes(t, good, config.ErrAbsent)
	note(good.Err())

	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"})
	for _, entry := range logs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, line.String())
	}
	if logs.Len() < 24 {
		t.Errorf("%d lines logged: nothing to look at", logs.Len())
	}
	for _, text := range said {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in: %s", text)
		}
	}
}

// refused opens a key with a default, puts a bad document, and returns why it was refused.
func refused[T any](t *testing.T, cli *clientv3.Client, key string, log *zap.Logger, document string) error {
	t.Helper()
	v := open(t, cli, key, &config.Options[T]{Logger: log, Default: new(T)})
	put(t, cli, key, document)
	becomes(t, v, config.ErrRefused)
	return v.Err()
}
