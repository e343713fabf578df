package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/names"
)

// maxParts bounds the depth of a tree.
const maxParts = 100

var (
	errWatched  = errors.New("it is watched already")
	errDocument = errors.New("it is one document, which a parser has to read")
	errTree     = errors.New("it is a tree of keys, which no parser can read")
)

// Provider hands configuration in etcd to koanf, or to whatever else takes its Provider interface: ReadBytes, Read and
// Watch. It is for programs that have koanf already; [Open] and [OpenMap] do more, as to keep the last good document. Make
// one with [NewProvider] or [NewTreeProvider]. It is safe for concurrent use.
//
// koanf's Load merges what is read into what was there, so that a key that was deleted stays. Load into a koanf of its own
// each time, and put that in the place of the last one.
type Provider struct {
	client *clientv3.Client
	key    string // of the document, or the tree's prefix with a slash
	tree   bool
	bad    error // why the key cannot be one

	mu    sync.Mutex // guards what is below
	last  providerRead
	watch *providerWatch // nil while there is none
}

// providerRead is what a read has found, so that a later one can be told from it.
type providerRead struct {
	revision int64 // 0 before the first
	keys     int
}

// ProviderEvent is what Watch calls its callback with.
type ProviderEvent struct {
	// Keys are those that were put or deleted, in order. There may be none: after an error the first event says that all is
	// well again.
	Keys []string

	// Revision is that of etcd at which they were so.
	Revision int64
}

// NewProvider returns a Provider of the document under key, which a koanf.Parser reads:
//
//	k.Load(config.NewProvider(client, "/config/mail/limits"), yaml.Parser())
//
// A key that cannot be one is an error of all its methods.
func NewProvider(client *clientv3.Client, key string) *Provider {
	return &Provider{client: client, key: key, bad: names.Path("key", key)}
}

// NewTreeProvider returns a Provider of all keys below a prefix and a slash, which needs no parser:
//
//	k.Load(config.NewTreeProvider(client, "/config/mail"), nil)
//
// The keys' names are split at slashes and at dots, so that /config/mail/database.url and /config/mail/database/url mean the
// same. Values are strings, as they stand in etcd: koanf's getters and Unmarshal make numbers, bools and durations of them.
func NewTreeProvider(client *clientv3.Client, prefix string) *Provider {
	return &Provider{client: client, key: prefix + "/", tree: true, bad: names.Path("prefix", prefix)}
}

// ReadBytes returns the document, by a linearizable read of at most 10 s. [ErrAbsent] says that there is none: a key that
// was deleted is not an empty document. Other errors name the endpoints and how they failed. A tree has no bytes.
func (p *Provider) ReadBytes() ([]byte, error) {
	if p.tree {
		return nil, p.failed(errTree)
	}
	resp, err := p.read(clientv3.OpGet(p.key))
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, p.failed(fmt.Errorf("%w as of revision %d", ErrAbsent, resp.Header.GetRevision()))
	}
	return resp.Kvs[0].Value, nil
}

// Read returns the tree, all of one revision, by a linearizable read of at most 10 s; an empty one if there are no keys. Two
// keys that contradict each other, as a and a/b do, or a/b and a.b, are an error that names the place, and so is a name with
// an empty part. A document is no tree.
func (p *Provider) Read() (map[string]any, error) {
	if !p.tree {
		return nil, p.failed(errDocument)
	}
	resp, err := p.read(clientv3.OpGet(p.key, clientv3.WithPrefix()))
	if err != nil {
		return nil, err
	}
	tree := map[string]any{}
	for _, kv := range resp.Kvs {
		if err := grow(tree, string(kv.Key[len(p.key):]), string(kv.Value)); err != nil {
			return nil, p.failed(err)
		}
	}
	return tree, nil
}

// read makes a read, and notes what it has found.
func (p *Provider) read(op clientv3.Op) (*clientv3.GetResponse, error) {
	if p.bad != nil {
		return nil, fmt.Errorf("config: %w", p.bad)
	}
	resp, err := call.Do(context.Background(), p.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		r, err := p.client.KV.Do(ctx, op)
		return r.Get(), err
	})
	if err != nil {
		return nil, p.failed(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = providerRead{revision: resp.Header.GetRevision(), keys: len(resp.Kvs)}
	return resp, nil
}

// Watch has callback called, one call at a time, until Unwatch:
//
//   - with a [ProviderEvent] and no error once a change; several that come while a callback runs are one. Read again then;
//   - without an event and with [ErrNotCurrent] once etcd cannot be followed, and why, and with an event once it can be again.
//     Watch never gives up by itself;
//   - without an event and with [ErrAbsent] once the document is deleted.
//
// Nothing is missed between the last Read or ReadBytes and Watch: what may have changed since is called for at once, and
// if nothing was read before, what there is. Watch does not wait for etcd. Its error says that the key cannot be one, or that it is watched already.
func (p *Provider) Watch(callback func(event any, err error)) error {
	if p.bad != nil {
		return fmt.Errorf("config: %w", p.bad)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil {
		return p.failed(errWatched)
	}
	w := &providerWatch{provider: p, callback: callback, inbox: newMapInbox(""), since: p.last, pending: map[string]*follow.Entry{}}
	w.life, w.cancel = context.WithCancel(context.Background())
	of := follow.Keys(p.key)
	if p.tree {
		of = follow.Prefix(p.key)
	}
	w.follower = follow.Attach(p.client, of.For(follow.Config), w.inbox)
	p.watch = w
	go w.run()
	return nil
}

// Unwatch ends the watching: but for one that is under way no callback is made any more. It does not wait for that one, and
// so may be called from it. Without a Watch it does nothing. Watch may be called again. There is no error.
func (p *Provider) Unwatch() error {
	p.mu.Lock()
	w := p.watch
	p.watch = nil
	p.mu.Unlock()
	if w != nil {
		w.end()
	}
	return nil
}

func (p *Provider) failed(err error) error {
	return fmt.Errorf("config %q: %w", strings.TrimSuffix(p.key, "/"), err)
}

// providerWatch is one Watch of a Provider.
type providerWatch struct {
	provider *Provider
	callback func(event any, err error)
	inbox    *mapInbox
	follower *follow.Follower
	life     context.Context
	cancel   context.CancelFunc

	mu    sync.Mutex // guards ended
	ended bool

	// ---- owned by run
	since   providerRead             // before the watch; of no interest once the first keys have been seen
	begun   bool                     // they have
	pending map[string]*follow.Entry // what changed while cut off
	failing bool                     // the last call was about an error of the following
}

func (w *providerWatch) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.follower.Close()
	w.cancel()
}

// run calls back for what is written down, until life ends.
func (w *providerWatch) run() {
	for {
		select {
		case <-w.life.Done():
			return
		case <-w.inbox.wake:
		}
		if page, whole := w.inbox.take(); whole {
			w.look(page)
		}
	}
}

// look calls back for a page, if there is something to say.
func (w *providerWatch) look(page mapMail) {
	maps.Copy(w.pending, page.newest)
	if page.cut != nil {
		if !w.failing && !errors.Is(page.cut, errUnread) {
			w.failing = true
			w.tell(nil, w.provider.failed(fmt.Errorf("%w: %w", ErrNotCurrent, page.cut)))
		}
		return
	}
	changed, news := w.pending, len(w.pending) > 0
	w.pending = map[string]*follow.Entry{}
	document, told := changed[w.provider.key]
	if !w.begun {
		w.begun, news = true, w.since.outdated(changed, page.revision)
		told = news
		maps.DeleteFunc(changed, func(_ string, kv *follow.Entry) bool { return kv != nil && kv.ModRevision <= w.since.revision })
	}
	if !news && !w.failing {
		return
	}
	w.failing = false
	if !w.provider.tree && told && document == nil {
		w.tell(nil, w.provider.failed(fmt.Errorf("%w as of revision %d", ErrAbsent, page.revision)))
		return
	}
	w.tell(ProviderEvent{Keys: slices.Sorted(maps.Keys(changed)), Revision: page.revision}, nil)
}

// outdated reports whether all the keys that there are, as of a revision, are not those that were read. Of those the ones
// that have not been put since are still there, so if none was put and as many are there nothing has changed.
func (r providerRead) outdated(all map[string]*follow.Entry, revision int64) bool {
	if r.revision == 0 {
		return true // nobody has read anything
	}
	there := 0
	for _, kv := range all {
		if kv != nil {
			there++
			if kv.ModRevision > r.revision {
				return true
			}
		}
	}
	// Another history; or a view that others have opened and that is a second behind: then reading once more does no harm.
	return there != r.keys || revision < r.revision
}

// tell calls back, unless the watching has ended.
func (w *providerWatch) tell(event any, err error) {
	w.mu.Lock()
	ended := w.ended
	w.mu.Unlock()
	if !ended {
		w.callback(event, err)
	}
}

// grow puts a value into a tree, where its name says.
func grow(tree map[string]any, name, value string) error {
	parts := strings.Split(strings.ReplaceAll(name, ".", "/"), "/")
	if slices.Contains(parts, "") {
		return fmt.Errorf("key %q refused: a part of its name is empty", shown(name))
	}
	if len(parts) > maxParts {
		return fmt.Errorf("key %q refused: its name has over %d parts", shown(name), maxParts)
	}
	for i, part := range parts {
		below, inner := tree[part].(map[string]any)
		switch leaf := i == len(parts)-1; {
		case tree[part] == nil && leaf:
			tree[part] = value
		case tree[part] == nil:
			below = map[string]any{}
			tree[part] = below
		case leaf || !inner:
			return fmt.Errorf("key %q refused: another one is, or is above or below, %q", shown(name), shown(strings.Join(parts[:i+1], "/")))
		}
		tree = below
	}
	return nil
}
