package migrating

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func oldRegister(ctx context.Context, client *clientv3.Client, id, addr string) error {
	lease, err := client.Grant(ctx, 10)
	if err != nil {
		return err
	}
	value := `{"Addr":"` + addr + `"}`
	if _, err := client.Put(ctx, "services/mail/"+id, value, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	alive, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range alive { // until the lease is lost, or ctx ends
		}
	}()
	return nil
}
