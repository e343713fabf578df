package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
)

var (
	// ErrDrained is why an instance is Draining although its program has not asked for that: somebody has, by [Ask].
	ErrDrained = errors.New("registry: taken out of traffic from outside")

	// ErrNoInstance is what Ask returns if there is no such instance, or no more.
	ErrNoInstance = errors.New("registry: no such instance")

	// ErrUnanswered is what Ask returns if the instance's process has not answered. Readers see the instance as Draining all the
	// same, if that is what was asked, for as long as its key lives; the process does what was asked when it sees it, unless it
	// has written meanwhile.
	ErrUnanswered = errors.New("registry: the instance's process has not answered")

	// ErrNotHeeded is what Ask returns if the instance was put back as it was: its program is of a version that takes no requests,
	// or none of etcdkit's.
	ErrNotHeeded = errors.New("registry: the instance's process has put it back as it was")

	errAskState   = errors.New("State refused: an instance can be asked to be draining or ready")
	errStillDrain = errors.New("it is draining by its own program's will")
)

const (
	// askWithin bounds the wait for an answer where ctx does not.
	askWithin = 10 * time.Second

	// askTries is how often is asked of a process that has put the instance back: once it may have been in the middle of a write
	// of which it did not know yet what became.
	askTries = 2
)

// AskOptions of Ask. The zero value, and a nil *AskOptions, mean the defaults.
type AskOptions struct {
	// Prefix is that of the instance's Options. Default "services".
	Prefix string

	// By says who asks, for the log of the instance's process.
	By string
}

// Ask asks the registration of an instance, in whichever process it is, to take no more work (Draining), or to be again what its program
// and its health checks say (Ready). What an operator has asked for holds until the contrary is asked, or the process registers anew;
// until then neither the program's Updates nor its checks make the instance Ready.
//
// It returns nil when the process has answered by writing the instance so, or has taken it out of etcd ([Options.HideUnready]); such an
// instance cannot be asked back. Readers see Draining at once, before the answer. ctx bounds the wait, and so do 10 s; what is
// then is [ErrUnanswered]. Other errors are [ErrNoInstance], [ErrNotHeeded], the rule that the instance or the request breaks, or the
// endpoint that failed.
//
// It needs READWRITE on the instance's key and nothing else, and writes over what it has read only: it takes part in no race.
func Ask(ctx context.Context, client *clientv3.Client, service, id string, state State, opts *AskOptions) error {
	if opts == nil {
		opts = &AskOptions{}
	}
	prefix, err := servicePrefix(opts.Prefix, service)
	if err == nil {
		err = names.Segment("instance", id)
	}
	if err == nil && state != Draining && state != Ready {
		err = errAskState
	}
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	a := asker{client: client, key: prefix + id, service: service, id: id, state: state, by: opts.By}
	for try := 1; ; try++ {
		if err = a.ask(ctx); err == nil || try == askTries || !errors.Is(err, ErrNotHeeded) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("registry %q: %w", a.key, err)
	}
	return nil
}

// request is what stands in a record while it is not answered.
type request struct {
	State string
	By    string `json:",omitempty"`
	Of    int64  // ModRevision of what the registration had written: it heeds no other
}

// requestIn reads the request in a value; nil if there is none.
func requestIn(value []byte) *request {
	var r struct{ Asked *request }
	if len(value) > maxSize || json.Unmarshal(value, &r) != nil {
		return nil
	}
	return r.Asked
}

// asker asks one instance.
type asker struct {
	client      *clientv3.Client
	key         string
	service, id string
	state       State
	by          string
}

// ask puts the request, and waits for what becomes of it.
func (a *asker) ask(ctx context.Context) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	put, err := a.put(ctx)
	if err != nil {
		return err
	}
	for resp := range a.client.Watch(watching, a.key, clientv3.WithRev(put.ModRevision+1)) {
		for _, ev := range resp.Events {
			if ev.Type == mvccpb.Event_DELETE {
				if a.state == Draining && reason(ctx, a.client, put.Lease) == Deleted {
					return nil // by its process, which hides it while it is not ready, or leaves
				}
				return ErrNoInstance
			}
			if requestIn(ev.Kv.Value) != nil {
				continue // somebody else asks
			}
			return a.answer(ev.Kv)
		}
		if err := resp.Err(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch for the answer: %w", err)
		}
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return ErrUnanswered
}

// answer judges what the process has written after the request.
func (a *asker) answer(kv *mvccpb.KeyValue) error {
	i, err := decode(a.service, a.id, kv.Value)
	switch {
	case err != nil:
		return err
	case a.state == Draining && i.State != Draining:
		return ErrNotHeeded
	case a.state == Ready && i.State == Draining:
		return errStillDrain
	}
	return nil
}

// put writes the request over what it has read, and returns that as it stands then.
func (a *asker) put(ctx context.Context) (*mvccpb.KeyValue, error) {
	for ctx.Err() == nil { // whoever updates it all the time leaves room between
		read, err := call.Do(ctx, a.client, "read the instance", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return a.client.KV.Get(ctx, a.key)
		})
		if err != nil {
			return nil, err
		}
		if len(read.Kvs) == 0 {
			return nil, ErrNoInstance
		}
		kv := read.Kvs[0]
		value, err := a.request(kv)
		if err != nil {
			return nil, err
		}
		// Repeated after a lost answer it finds its own request, and puts it again.
		put, err := call.Do(ctx, a.client, "write the request", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return a.client.KV.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(a.key), "=", kv.ModRevision)).
				Then(clientv3.OpPut(a.key, value, clientv3.WithIgnoreLease())).
				Commit()
		})
		if err != nil {
			return nil, err
		}
		if put.Succeeded {
			kv.ModRevision = put.Header.GetRevision()
			return kv, nil
		}
	}
	return nil, errContended
}

// request is a value with the request in it. All else stays, also what this version does not know.
func (a *asker) request(kv *mvccpb.KeyValue) (string, error) {
	if _, err := decode(a.service, a.id, kv.Value); err != nil {
		return "", err
	}
	asked := request{State: a.state.String(), By: a.by, Of: kv.ModRevision}
	if pending := requestIn(kv.Value); pending != nil {
		asked.Of = pending.Of // what the registration wrote, and knows
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(kv.Value, &fields); err != nil {
		return "", jsonError(err)
	}
	set := func(name string, v any) {
		fields[name], _ = json.Marshal(v) // strings and a number
	}
	set("Asked", asked)
	if a.state == Draining {
		set("State", a.state.String()) // for all who read it, from now on
	}
	value, err := json.Marshal(fields)
	switch {
	case err != nil:
		return "", fmt.Errorf("encode the request: %w", err)
	case len(a.id)+len(value) > maxSize:
		return "", errLarge
	}
	return string(value), nil
}

// heed does what was asked in a value of the registration's key, if it was asked of what the registration wrote last. It reports whether
// it was: another request is from a history that was replaced, or was answered before.
func (a *announcer) heed(kv *mvccpb.KeyValue) bool {
	if kv == nil || a.at == 0 {
		return false
	}
	asked := requestIn(kv.Value)
	if asked == nil || asked.Of != a.at {
		return false
	}
	drain := asked.State == Draining.String()
	if !drain && asked.State != Ready.String() {
		return false
	}
	if a.r.wishes.detain(drain) {
		a.log.Info("asked from outside", zap.String("state", asked.State), zap.String("by", asked.By))
	}
	return true
}
