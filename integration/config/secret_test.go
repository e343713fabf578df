package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// secret stands for a password, and number for one of digits. They are short, so that an error which shortens what it quotes shows
// them too.
const (
	secret = "zQ7zq"
	number = "867530"
)

// Types that quote what they are given, in every way there is.
type (
	quoting     struct{}
	quotingJSON struct{}
	panicking   struct{}
	erring      struct{}
)

func (q *quoting) UnmarshalText(b []byte) error { return fmt.Errorf("cannot read %q", b) }

func (q *quotingJSON) UnmarshalJSON(b []byte) error { return fmt.Errorf("cannot read %s", b) }

func (p *panicking) UnmarshalText(b []byte) error { panic(string(b)) }

func (e *erring) UnmarshalText(b []byte) error { panic(errors.New(string(b))) }

// confidential is a document, or a tree, none of whose fields can be read without a word.
type confidential struct {
	Text     quoting            `json:"text"`
	JSON     quotingJSON        `json:"json"`
	Panics   panicking          `json:"panics"`
	Errs     erring             `json:"errs"`
	Pointer  *quoting           `json:"pointer"`
	List     []quoting          `json:"list"`
	Values   map[string]quoting `json:"values"`
	Small    int8               `json:"small"`
	Flag     bool               `json:"flag"`
	Duration time.Duration      `json:"duration"`
	Size     codec.Size         `json:"size"`
	Level    zapcore.Level      `json:"level"`
	Bytes    []byte             `json:"bytes"`
	Time     time.Time          `json:"time"`
}

var confidentials = []string{"text", "json", "panics", "errs", "pointer", "list", "values", "small", "flag", "duration", "size", "level", "bytes", "time"}

// confession is what was said by whoever had to do with secrets.
type confession struct {
	t    *testing.T
	log  *zap.Logger
	logs *observer.ObservedLogs

	mu   sync.Mutex
	said []string // guarded by mu
	errs int      // guarded by mu
}

func newConfession(t *testing.T) *confession {
	core, logs := observer.New(zapcore.DebugLevel)
	return &confession{t: t, log: zap.New(core, zap.AddStacktrace(zapcore.DebugLevel)), logs: logs}
}

// note takes down an error, as a logger might print it.
func (c *confession) note(what string, err error) {
	c.t.Helper()
	if err == nil {
		c.t.Errorf("%s: no error", what)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs++
	for ; err != nil; err = errors.Unwrap(err) {
		c.said = append(c.said, err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err))
		if joined, is := err.(interface{ Unwrap() []error }); is {
			for _, e := range joined.Unwrap() {
				c.said = append(c.said, fmt.Sprintf("%+v %#v", e, e))
			}
		}
	}
}

// search fails the test if a secret was said, or logged.
func (c *confession) search() {
	c.t.Helper()
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m", StacktraceKey: "s", NameKey: "n"})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, entry := range c.logs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			c.t.Fatal(err)
		}
		c.said = append(c.said, line.String())
	}
	c.t.Logf("%d errors and %d lines of logs were searched", c.errs, c.logs.Len())
	if c.errs < 50 || c.logs.Len() < 100 {
		c.t.Error("that proves little")
	}
	for _, text := range c.said {
		if strings.Contains(text, secret) || strings.Contains(text, number) {
			c.t.Errorf("a secret is in: %s", text)
		}
	}
}

// Secrets as documents, in documents, in trees and maps, under rollouts, on disk, sealed and not, in the hands of types that quote what
// they are given and of parts that panic with it: nothing that this package logs, returns or reports holds any of it.
func TestNobodyIsToldASecret(t *testing.T) {
	t.Parallel()
	c := newConfession(t)
	cli := etcdtest.Shared(t).Dial(clientv3.Config{Logger: c.log})
	prefix := etcdtest.Prefix(t)
	at := 0
	key := func() string { at++; return fmt.Sprintf("%s%d", prefix, at) }

	for _, field := range confidentials {
		for _, form := range []string{
			`{%q: "SECRET"}`, `{%q: ["SECRET"]}`, `{%q: {"SECRET": "SECRET"}}`, `{%q: SECRET`, "%s: SECRET", "%s: {SECRET: SECRET}", "%s: [*SECRET]", "%s: !SECRET x",
		} {
			for _, canary := range []string{secret, number} {
				document := strings.ReplaceAll(fmt.Sprintf(form, field), "SECRET", canary)
				if v := refuses(c, cli, key(), document, &config.Options[confidential]{}); v != nil {
					c.note(document, v)
				}
			}
		}
	}
	c.note("a text", refuses(c, cli, key(), secret, &config.Options[quoting]{}))
	c.note("a panic", refuses(c, cli, key(), secret, &config.Options[panicking]{}))
	c.note("a pattern", refuses(c, cli, key(), secret, &config.Options[map[string]erring]{}))
	c.note("a number", refuses(c, cli, key(), number, &config.Options[int8]{}))
	c.instance(cli, key())
	c.parts(cli, key())
	c.copies(cli, key())
	c.sealed(cli, key())
	c.tree(cli, key())
	c.mapped(cli, key())
	c.store(cli, key())
	c.reports(etcdtest.Client(t), prefix)
	c.search()
}

// refuses puts a document over a default, and returns what Err says; nil if there is a way to read it.
func refuses[T any](c *confession, cli *clientv3.Client, key, document string, opts *config.Options[T]) error {
	c.t.Helper()
	opts.Default, opts.Logger = new(T), c.log
	revision := put(c.t, cli, key, document)
	v, err := config.Open(c.t.Context(), cli, key, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	defer v.Close()
	until(c.t, v, "the document is looked at", func(err error) bool { return err == nil || refusedAt(revision)(err) })
	return v.Err()
}

// instance reports what it refuses: of the key, and of a rollout.
func (c *confession) instance(cli *clientv3.Client, key string) {
	put(c.t, cli, key, "{}")
	who := config.Identity{ID: "a", Labels: map[string]string{"tier": "canary"}, TTL: 2 * time.Second}
	v := open(c.t, cli, key, &config.Options[confidential]{Logger: c.log, Identity: who})
	revision := put(c.t, cli, key, `{"text": "`+secret+`"}`)
	reported(c.t, cli, key, "a", "a refusal", func(r config.Report) bool { return r.State == config.Refused && r.Revision == revision })
	c.note("refused", v.Err())
	c.note("reported", errors.New(reported(c.t, cli, key, "a", "why", func(r config.Report) bool { return r.Reason != "" }).Reason))
	candidate := rollout(c.t, cli, key, "r", `{"panics": "`+secret+`"}`)
	r := reported(c.t, cli, key, "a", "a refusal of the rollout's", func(r config.Report) bool { return r.State == config.Refused && r.Revision == candidate })
	c.note("a rollout", errors.New(r.Reason))
	c.note("a rollout", v.Err())
}

// parts are subscribers that panic with what they are given.
func (c *confession) parts(cli *clientv3.Client, key string) {
	put(c.t, cli, key, "a")
	v := open(c.t, cli, key, &config.Options[string]{Logger: c.log, Validate: func(text string) error {
		if strings.HasPrefix(text, number) {
			panic(text)
		}
		return nil
	}})
	if _, err := v.Bind(func(_, to string) (commit, abort func(), err error) {
		if to != "a" {
			panic(errors.New(to))
		}
		return nil, nil, nil
	}); err != nil {
		c.t.Fatal(err)
	}
	for _, document := range []string{secret, number} {
		revision := put(c.t, cli, key, document)
		until(c.t, v, "the panic is a refusal", refusedAt(revision))
		c.note("a panic", v.Err())
	}
	_, err := v.Bind(func(_, to string) (commit, abort func(), err error) { panic(secret + to) })
	c.note("a binding", err)
}

// copies are those on disk, read by another program than wrote them.
func (c *confession) copies(cli *clientv3.Client, key string) {
	dir := c.t.TempDir()
	put(c.t, cli, key, secret)
	open(c.t, cli, key, &config.Options[string]{Logger: c.log, CacheDir: dir}).Close()
	_, err := config.Open(c.t.Context(), cli, key, &config.Options[quoting]{Logger: c.log, CacheDir: dir})
	c.note("a copy", err)
	_, err = config.Open(c.t.Context(), cli, key, &config.Options[int]{Logger: c.log, CacheDir: dir})
	c.note("a copy", err)
}

// sealed documents: one that is not, one of another key, and one that is right and holds what is not.
func (c *confession) sealed(cli *clientv3.Client, key string) {
	ring, err := codec.NewKeyring("k", map[string][]byte{"k": []byte(strings.Repeat("k", 32))})
	if err != nil {
		c.t.Fatal(err)
	}
	other, err := codec.NewKeyring("k", map[string][]byte{"k": []byte(strings.Repeat(secret, 7)[:32])})
	if err != nil {
		c.t.Fatal(err)
	}
	seal := func(ring *codec.Keyring) string {
		text, err := ring.Seal(key, []byte(secret))
		if err != nil {
			c.t.Fatal(err)
		}
		return string(text)
	}
	c.note("not sealed", refuses(c, cli, key, secret, &config.Options[string]{Keyring: ring}))
	c.note("sealed by others", refuses(c, cli, key, seal(other), &config.Options[string]{Keyring: ring}))
	c.note("sealed, and no number", refuses(c, cli, key, seal(ring), &config.Options[int]{Keyring: ring}))
	c.note("sealed, and quoted", refuses(c, cli, key, seal(ring), &config.Options[quoting]{Keyring: ring}))
	c.log.Debug("a keyring", zap.Any("ring", other), zap.Stringer("ring", other))
}

// tree is one whose keys hold secrets.
func (c *confession) tree(cli *clientv3.Client, prefix string) {
	v := openTree(c.t, cli, &config.Options[confidential]{Logger: c.log, Default: &confidential{}}, prefix)
	for _, field := range confidentials {
		for _, document := range []string{secret, number, `"` + secret + `"`, `["` + secret + `"]`, `{"` + secret + `": "` + secret + `"}`} {
			key := prefix + "/" + field
			revision := put(c.t, cli, key, document)
			until(c.t, v, "the tree is looked at", func(err error) bool {
				return refusedAt(revision)(err) || err == nil && v.Snapshot().Revision == revision
			})
			if err := v.Err(); err != nil {
				c.note(field, err)
			}
			remove(c.t, cli, key)
		}
	}
	put(c.t, cli, prefix+"/values/a", secret)
	until(c.t, v, "the tree is refused", func(err error) bool { return errors.Is(err, config.ErrRefused) })
	c.note("an entry of a map", v.Err())
	_, err := config.OpenTree(c.t.Context(), cli, []string{prefix}, &config.Options[confidential]{Logger: c.log, RefuseUnknown: true})
	c.note("a tree", err)
}

// mapped is a map whose keys hold secrets.
func (c *confession) mapped(cli *clientv3.Client, prefix string) {
	put(c.t, cli, prefix+"/a", secret)
	put(c.t, cli, prefix+"/b", `{"text": "`+secret+`"}`)
	put(c.t, cli, prefix+"/c", `{"errs": "`+secret+`"}`)
	m, err := config.OpenMap(c.t.Context(), cli, prefix, &config.Options[confidential]{Logger: c.log})
	if err != nil {
		c.t.Fatal(err)
	}
	defer m.Close()
	c.note("a map", m.Err())
}

// store refuses secrets that do not pass its check, and those that are too large.
func (c *confession) store(cli *clientv3.Client, key string) {
	s, err := config.NewStore(cli, &config.StoreOptions{Logger: c.log, Validate: config.Check[confidential](nil)})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, document := range []string{secret, `{"text": "` + secret + `"}`, `{"panics": "` + secret + `"}`, strings.Repeat(secret, config.MaxPublished/5+1)} {
		_, err := s.Publish(c.t.Context(), key, []byte(document), config.PublishOptions{Author: "a"})
		c.note("publishing", err)
	}
	if _, err := s.Publish(c.t.Context(), key, []byte(`{"small": 1}`), config.PublishOptions{Author: "a"}); err != nil {
		c.t.Fatal(err)
	}
	put(c.t, cli, key, secret) // by other means
	_, err = s.Publish(c.t.Context(), key, []byte(`{"small": 2}`), config.PublishOptions{Author: "a", Expect: 1})
	c.note("a conflict", err)
	_, err = s.Update(c.t.Context(), key, func([]byte) ([]byte, error) { return []byte(secret + "x"), nil }, config.PublishOptions{Author: "a"})
	c.note("an update", err)
}

// reports searches the reports of all instances, as they are in etcd.
func (c *confession) reports(cli *clientv3.Client, prefix string) {
	resp, err := cli.Get(context.WithoutCancel(c.t.Context()), beside(prefix)[:len(beside(prefix))-2], clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		var r config.Report
		if strings.Contains(string(kv.Key), "//report/") && json.Unmarshal(kv.Value, &r) == nil {
			c.note("a report", fmt.Errorf("%+v %s", r, kv.Value)) //nolint:err113 // it is what is searched
		}
	}
}
