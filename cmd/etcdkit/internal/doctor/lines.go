package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	mostPlaces   = 200             // whose leases are asked about
	placesTake   = 5 * time.Second // ... and how long that may take
	settleWithin = time.Second     // etcd deletes the keys of an expired lease within half a second
)

// asPlace is how the last part of a place in line looks: see docs/keys.md. etcd's own recipes write the lease alone.
var asPlace = regexp.MustCompile(`^(?:~(?:r|[0-9]+)\.[0-9]+-)?([0-9a-f]{1,16})(?:-[0-9]+)?$`)

// place is a key that may be a place in a line.
type place struct {
	key     string
	line    string // what is before the last slash
	created int64
	named   int64 // the lease that the key names
	lease   int64 // ... and the one that it hangs on; 0 for none
	signed  bool  // its value says that a lock of ours put it
}

// placeOf is a key as a place in a line, if it looks like one.
func placeOf(kv *mvccpb.KeyValue) (place, bool) {
	key := string(kv.Key)
	slash := strings.LastIndexByte(key, '/')
	if slash < 0 {
		return place{}, false
	}
	parts := asPlace.FindStringSubmatch(key[slash+1:])
	if parts == nil {
		return place{}, false
	}
	named, err := strconv.ParseInt(parts[1], 16, 64)
	if err != nil {
		return place{}, false
	}
	var by struct {
		Who, Host string
		Since     time.Time
	}
	signed := json.Unmarshal(kv.Value, &by) == nil && by.Host != "" && !by.Since.IsZero()
	return place{key: key, line: key[:slash], created: kv.CreateRevision, named: named, lease: kv.Lease, signed: signed}, true
}

// lines are the places by their lines. What merely looks like a place is none: in a line there is a key that hangs on the very lease it
// names, or one that a lock has signed.
func lines(all []place) map[string][]place {
	by := map[string][]place{}
	real := map[string]bool{}
	for _, p := range all {
		by[p.line] = append(by[p.line], p)
		real[p.line] = real[p.line] || p.signed || p.lease != 0 && p.lease == p.named
	}
	for line := range by {
		if !real[line] {
			delete(by, line)
		}
	}
	return by
}

// zombies looks for places in lines that nobody will leave: those without a lease, and those whose lease is over and that are there still.
func zombies(ctx context.Context, client *clientv3.Client, s *sample) Finding {
	f := Finding{Subject: "zombies in line"}
	ctx, cancel := context.WithTimeout(ctx, placesTake)
	defer cancel()
	byLine := lines(s.places)
	var dead, doubtful []place
	asked, places := 0, 0
	for _, line := range byLine {
		for _, p := range line {
			places++
			if p.lease == 0 {
				dead = append(dead, p)
				continue
			}
			if asked == mostPlaces {
				continue
			}
			asked++
			ttl, err := client.TimeToLive(ctx, clientv3.LeaseID(p.lease))
			if err != nil {
				return notSeen(f.Subject, err, "Examine as a user who may read leases.")
			}
			if ttl.TTL <= 0 {
				doubtful = append(doubtful, p)
			}
		}
	}
	over, err := outlived(ctx, client, doubtful)
	if err != nil {
		return notSeen(f.Subject, err, "Examine with --root USER, who may read all keys.")
	}
	dead = append(dead, over...)
	f.Evidence = []string{fmt.Sprintf("%s in %s, leases of %d asked about; %s", cli.Plural(places, "place", "places"), cli.Plural(len(byLine), "line", "lines"), asked, s.coverage())}
	for _, p := range dead[:min(len(dead), shownKeys)] {
		why := "it hangs on no lease"
		if p.lease != 0 {
			why = fmt.Sprintf("its lease %x is over", p.lease)
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s", cli.Visible(p.key), why))
	}
	switch {
	case len(dead) > 0:
		f.Verdict, f.Reason = Fail, fmt.Sprintf("%s in lines will never be left: whoever waits behind waits for ever", cli.Plural(len(dead), "place", "places"))
		f.Remedy = "Find out who puts keys into lines without a lease, or restored them from elsewhere; then delete them: etcdctl del KEY."
	case !s.whole() || asked == mostPlaces && places > mostPlaces:
		f.Verdict, f.Reason, f.Remedy = Skipped, "none is among those that were looked at, and there are more", "Look at the lines that matter: etcdkit inspect NAME."
	default:
		f.Verdict, f.Reason = OK, "everybody in line has a lease that lives"
	}
	return f
}

// outlived are those places that are there still when etcd had time to delete them.
func outlived(ctx context.Context, client *clientv3.Client, doubtful []place) (still []place, err error) {
	if len(doubtful) == 0 {
		return nil, nil
	}
	if !pause(ctx, settleWithin) {
		return nil, context.Cause(ctx)
	}
	for _, p := range doubtful {
		resp, err := client.Get(ctx, p.key, clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		if len(resp.Kvs) == 1 && resp.Kvs[0].CreateRevision == p.created && resp.Kvs[0].Lease == p.lease {
			still = append(still, p)
		}
	}
	return still, nil
}
