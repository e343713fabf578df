package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
)

func newLead(ctx context.Context, client *clientv3.Client, name, value string, lead func(context.Context) error) error {
	return election.Run(ctx, client, name, value, nil, func(ctx context.Context, _ *election.Term) error {
		return lead(ctx) // until ctx ends, which it does when the term is lost; then Run stands again
	})
}
