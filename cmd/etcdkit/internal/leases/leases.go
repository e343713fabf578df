// Package leases asks etcd for leases, several at a time.
package leases

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// atOnce is how many questions are under way at a time: etcd's leader answers each.
const atOnce = 16

// ErrKeys says that the keys of a lease may not be seen.
var ErrKeys = errors.New("some of its keys may not be read")

// Lease is what etcd says of one.
type Lease struct {
	ID      clientv3.LeaseID
	Granted time.Duration // its TTL
	Left    time.Duration // until it ends, unless it is renewed
	Keys    []string      // if they were asked for
	Gone    bool          // it has ended, or never was
	Err     error         // why Keys, or nothing at all, is known
}

// Hex is an ID as keys and etcdctl write it.
func Hex(id clientv3.LeaseID) string { return fmt.Sprintf("%x", int64(id)) }

// Text says how long a lease has yet, of how long.
func (l Lease) Text() string {
	switch {
	case l.ID == clientv3.NoLease:
		return ""
	case l.Gone:
		return "ended"
	case l.Granted == 0:
		return "unknown"
	case l.Granted <= 10*time.Minute:
		return fmt.Sprintf("%d of %ds", int(l.Left.Seconds()), int(l.Granted.Seconds()))
	case l.Granted <= 10*time.Hour:
		return fmt.Sprintf("%d of %dm", int(l.Left.Minutes()), int(l.Granted.Minutes()))
	}
	return fmt.Sprintf("%d of %dh", int(l.Left.Hours()), int(l.Granted.Hours()))
}

// Ask asks for leases, each once, with their keys if keys is set. What etcd refuses about one is in its Err; other errors are returned.
func Ask(ctx context.Context, client *clientv3.Client, ids []clientv3.LeaseID, keys bool) (map[clientv3.LeaseID]Lease, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex // guards found
		found = make(map[clientv3.LeaseID]Lease, len(ids))
		work  sync.WaitGroup
	)
	for _, id := range ids {
		if _, twice := found[id]; !twice && id != clientv3.NoLease {
			found[id] = Lease{ID: id}
		}
	}
	todo := make(chan clientv3.LeaseID, len(found))
	for id := range found {
		todo <- id
	}
	close(todo)
	for range min(atOnce, len(found)) {
		work.Go(func() {
			for id := range todo {
				l, err := ask(ctx, client, id, keys)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				found[id] = l
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return found, context.Cause(ctx)
}

// ask asks for one.
func ask(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID, keys bool) (Lease, error) {
	var opts []clientv3.LeaseOption
	if keys {
		opts = append(opts, clientv3.WithAttachedKeys())
	}
	resp, err := call.Do(ctx, client, "ask for lease "+Hex(id), func(ctx context.Context) (*clientv3.LeaseTimeToLiveResponse, error) {
		return client.Lease.TimeToLive(ctx, id, opts...)
	})
	denied := errors.Is(err, rpctypes.ErrPermissionDenied)
	switch {
	case denied && keys: // without its keys anybody may ask
		l, err := ask(ctx, client, id, false)
		if err == nil && !l.Gone {
			l.Err = ErrKeys
		}
		return l, err
	case denied:
		return Lease{ID: id, Err: err}, nil
	case call.LeaseGone(err):
		return Lease{ID: id, Gone: true}, nil
	case err != nil:
		return Lease{}, err
	case resp.TTL <= 0:
		return Lease{ID: id, Gone: true}, nil
	}
	l := Lease{ID: id, Granted: time.Duration(resp.GrantedTTL) * time.Second, Left: time.Duration(resp.TTL) * time.Second}
	for _, k := range resp.Keys {
		l.Keys = append(l.Keys, string(k))
	}
	return l, nil
}
