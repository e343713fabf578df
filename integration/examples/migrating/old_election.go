package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func oldLead(ctx context.Context, client *clientv3.Client, name, value string, lead func(context.Context) error) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer s.Close()
	e := concurrency.NewElection(s, name)
	if err := e.Campaign(ctx, value); err != nil {
		return err
	}
	defer e.Resign(ctx)
	return lead(ctx)
}
