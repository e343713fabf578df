package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	probeRounds = 50
	probeTakes  = 5 * time.Second
	tidyWithin  = 1500 * time.Millisecond // less than a check may be late
)

// probeWrites writes below a prefix of its own, and deletes it: also when ctx ends, and by a lease when the process does.
func probeWrites(ctx context.Context, client *clientv3.Client) (times spread, err error) {
	lease, err := client.Grant(ctx, ownLeaseTTL)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
		defer cancel()
		_, gone := client.Revoke(ctx, lease.ID) // deletes its keys
		err = errors.Join(err, gone)
	}()
	key := ownPrefix + rand.Text()
	bounded, cancel := context.WithTimeout(ctx, probeTakes)
	defer cancel()
	for range probeRounds {
		began := time.Now()
		if _, err := client.Put(bounded, key, "", clientv3.WithLease(lease.ID)); err != nil {
			if bounded.Err() != nil && ctx.Err() == nil && len(times) > 0 {
				break // slow, and measured
			}
			return times, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}
