package migrating

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
)

var errRate = errors.New("rate must be at least 1")

func newLimits(ctx context.Context, client *clientv3.Client, key string) (*config.Value[Limits], error) {
	return config.Open(ctx, client, key, &config.Options[Limits]{ // limits.Get(), limits.Err(), limits.Close()
		Default: &Limits{Rate: 100},
		Validate: func(l Limits) error {
			if l.Rate < 1 {
				return errRate
			}
			return nil
		},
	})
}
