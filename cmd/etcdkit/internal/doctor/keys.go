package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

// The sizes of keys are known by reading their values alone. So a part is read: in pages, each of which has the server count all keys,
// and must not itself be what it looks for.
const (
	mostPages   = 100
	mostKeys    = 50_000
	mostRead    = 128 << 20 // bytes
	pageSize    = 1 << 20   // bytes, about
	firstPage   = 16        // keys: 1.5 MiB each, at worst
	largestPage = 1000      // keys
	keysTake    = 10 * time.Second

	largeKey  = 256 << 10 // bytes; holds up whoever shares the connection
	hugeKey   = 1 << 20   // bytes; no two of them fit into a request
	shownKeys = 5
)

// sample is a part of the keys.
type sample struct {
	looked, total int64
	bytes         int64
	large         []sized // the largest first
	places        []place // keys that may be places in lines
	why           string  // why it is not all; empty if it is
}

// sized is a key and how large it is with its value.
type sized struct {
	key  string
	size int
}

// whole reports whether all keys were looked at.
func (s *sample) whole() bool { return s.why == "" }

// coverage says how much was looked at.
func (s *sample) coverage() string {
	if s.whole() {
		return fmt.Sprintf("looked at all %d keys", s.looked)
	}
	return fmt.Sprintf("looked at the first %d of %d keys, %s: %s", s.looked, s.total, snapshot.Bytes(s.bytes), s.why)
}

// sampleKeys reads keys and values from the first on, until a bound is reached.
func sampleKeys(ctx context.Context, client *clientv3.Client) (*sample, error) {
	bounded, cancel := context.WithTimeout(ctx, keysTake)
	defer cancel()
	s, from, limit := &sample{}, "\x00", int64(firstPage)
	for range mostPages {
		resp, err := client.Get(bounded, from, clientv3.WithFromKey(), clientv3.WithLimit(limit), clientv3.WithSerializable())
		if err != nil {
			if s.looked > 0 && bounded.Err() != nil && ctx.Err() == nil {
				s.why = fmt.Sprintf("%v are over", keysTake)
				return s, nil
			}
			return nil, err
		}
		s.total = s.looked + resp.Count
		for _, kv := range resp.Kvs {
			s.add(kv)
		}
		switch {
		case !resp.More:
			return s, nil
		case s.looked >= mostKeys || s.bytes >= mostRead:
			s.why = "enough for a sample"
			return s, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		limit = min(max(pageSize/(s.bytes/s.looked+1), firstPage), largestPage)
	}
	s.why = "enough for a sample"
	return s, nil
}

// add looks at a key.
func (s *sample) add(kv *mvccpb.KeyValue) {
	size := len(kv.Key) + len(kv.Value)
	s.looked++
	s.bytes += int64(size)
	if size >= largeKey {
		s.large = append(s.large, sized{string(kv.Key), size})
		slices.SortFunc(s.large, func(a, b sized) int { return cmp.Compare(b.size, a.size) })
	}
	if p, ok := placeOf(kv); ok {
		s.places = append(s.places, p)
	}
}

// sizes judges how large the keys are.
func (s *sample) sizes() Finding {
	f := Finding{Verdict: OK, Subject: "large keys", Reason: fmt.Sprintf("no key is larger than %s", snapshot.Bytes(largeKey)), Evidence: []string{s.coverage()}}
	for _, l := range s.large[:min(len(s.large), shownKeys)] {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s", cli.Visible(l.key), snapshot.Bytes(int64(l.size))))
	}
	switch {
	case len(s.large) > 0:
		f.Verdict, f.Reason = Warn, fmt.Sprintf("%s larger than %s: whoever reads or watches them holds up others", isOrAre(len(s.large)), snapshot.Bytes(largeKey))
		if s.large[0].size >= hugeKey {
			f.Verdict, f.Reason = Fail, fmt.Sprintf("%s is %s: etcd takes requests of 1.5 MiB, and neither its history nor a transaction fits", cli.Visible(s.large[0].key), snapshot.Bytes(int64(s.large[0].size)))
		}
		f.Remedy = "Keep what is large elsewhere, and in etcd where it is; or split it into keys that change apart."
	case !s.whole():
		f.Verdict, f.Reason, f.Remedy = Skipped, "no large key is among those that were looked at, and there are more", "Look at the rest by prefix: etcdctl get --prefix PREFIX --write-out=fields, at a quiet time."
	}
	return f
}

func isOrAre(n int) string {
	if n == 1 {
		return "1 key is"
	}
	return fmt.Sprintf("%d keys are", n)
}
