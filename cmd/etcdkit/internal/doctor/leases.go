package doctor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	mostLeases   = 1000 // that are asked about, drawn by lot
	leasesAtOnce = 8
	leasesTake   = 5 * time.Second

	// A session that owns nothing at the moment has no keys, and a grant whose answer is lost leaves a lease behind. So it takes many, and
	// a large part of all, to say that they leak.
	someEmpty, someShare = 20, 0.20
	manyEmpty, manyShare = 100, 0.50
)

// leases are what was learned of leases.
type leases struct {
	total, looked int
	empty         int           // have no keys
	renewed       int           // ... of them in the first third of their TTL: somebody keeps them, or has just asked for them
	longest       time.Duration // the TTL of those
}

// lookAtLeases asks about leases, as many as may be.
func lookAtLeases(ctx context.Context, client *clientv3.Client) (leases, error) {
	list, err := client.Leases(ctx)
	if err != nil {
		return leases{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, leasesTake)
	defer cancel()
	ids := list.Leases
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	var (
		found  = leases{total: len(ids)}
		next   = make(chan clientv3.LeaseID)
		work   sync.WaitGroup
		mu     sync.Mutex // guards found and failed
		failed error
	)
	for range leasesAtOnce {
		work.Go(func() {
			for id := range next {
				ttl, err := client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
				mu.Lock()
				switch {
				case err == nil:
					found.add(ttl)
				case failed == nil && ctx.Err() == nil:
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, s := range ids[:min(len(ids), mostLeases)] {
		if ctx.Err() != nil {
			break
		}
		next <- s.ID
	}
	close(next)
	work.Wait()
	return found, failed
}

// add counts a lease, unless it has gone.
func (l *leases) add(ttl *clientv3.LeaseTimeToLiveResponse) {
	if ttl.TTL < 0 {
		l.total--
		return
	}
	l.looked++
	if len(ttl.Keys) > 0 {
		return
	}
	l.empty++
	l.longest = max(l.longest, time.Duration(ttl.GrantedTTL)*time.Second)
	if ttl.TTL*3 >= ttl.GrantedTTL*2 {
		l.renewed++
	}
}

// finding judges them.
func (l leases) finding() Finding {
	f := Finding{Verdict: OK, Subject: "leases without keys", Reason: "leases are there for keys", Evidence: []string{
		fmt.Sprintf("%s; %d looked at, %d without keys", cli.Plural(l.total, "lease", "leases"), l.looked, l.empty),
	}}
	if l.empty > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("of those without keys %d were granted or renewed within the last third of their TTL, which is %v at most", l.renewed, l.longest))
	}
	part := 0.0
	if l.looked > 0 {
		part = float64(l.empty) / float64(l.looked)
	}
	remedy := "Have programs keep one session, close it when they end, and put keys with its lease; see whose they are with etcdkit sessions ls."
	switch {
	case l.empty >= manyEmpty && part >= manyShare:
		f.Verdict, f.Reason, f.Remedy = Fail, fmt.Sprintf("%d of %d leases have no keys: somebody asks for leases, and loses them", l.empty, l.looked), remedy
	case l.empty >= someEmpty && part >= someShare:
		f.Verdict, f.Reason, f.Remedy = Warn, fmt.Sprintf("%d of %d leases have no keys", l.empty, l.looked), remedy
	case l.looked < min(l.total, mostLeases):
		f.Verdict, f.Reason, f.Remedy = Skipped, fmt.Sprintf("only %d of %d were looked at in %v", l.looked, l.total, leasesTake), "Examine again at a quiet time."
	}
	return f
}
