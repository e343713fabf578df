package migrating

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

func TestConnecting(t *testing.T) {
	t.Parallel()
	endpoints := etcdtest.Endpoints()
	old, err := oldConnect(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	client, err := newClient(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p, err := newConnect(t.Context(), endpoints)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	for _, cli := range []*clientv3.Client{old, client, p.Client()} {
		if _, err := cli.Get(t.Context(), "any"); err != nil {
			t.Error(err)
		}
	}
	// What the page says of the old form.
	nowhere := []string{"127.0.0.1:1"}
	if cli, err := oldConnect(nowhere); err != nil {
		t.Errorf("the old form looks, and says %v", err)
	} else {
		cli.Close()
	}
	if _, err := newConnect(t.Context(), nowhere); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}

func TestCounting(t *testing.T) {
	t.Parallel()
	cli, key := own(t)
	if err := oldCount(cli, key); err != nil {
		t.Fatal(err)
	}
	const many = 8
	var counting sync.WaitGroup
	for range many {
		counting.Go(func() {
			for range many {
				if err := newCount(t.Context(), cli, key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	counting.Wait()
	if got := etcdtest.WaitKey(t, soon, cli, key).Kvs[0]; string(got.Value) != "65" {
		t.Errorf("%s of 65", got.Value)
	}
}

func TestRegistering(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil) // the service's name is the program's
	cli := c.Client()
	if err := oldRegister(t.Context(), cli, "a", "10.0.0.7:80"); err != nil {
		t.Fatal(err)
	}
	reg, err := newRegister(t.Context(), cli, "b", "10.0.0.8:80")
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close(context.Background())
	view, err := newFind(t.Context(), cli)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if list := view.Snapshot().Instances; len(list) != 2 || list[0].Addr != "10.0.0.7:80" || list[1].Addr != "10.0.0.8:80" {
		t.Fatalf("%v", list)
	}
	// Both leases are lost. The new form comes back, the old one does not.
	for _, kv := range etcdtest.WaitKeys(t, soon, cli, "services/mail/", 2).Kvs {
		c.Revoke(clientv3.LeaseID(kv.Lease))
	}
	etcdtest.WaitKey(t, soon, cli, "services/mail/b")
	if resp, err := cli.Get(t.Context(), "services/mail/a"); err != nil || resp.Count > 0 {
		t.Errorf("the old one is back: %v, %v", resp.Kvs, err)
	}
}

func TestConfiguring(t *testing.T) {
	t.Parallel()
	cli, key := own(t)
	put := func(value string) int64 {
		t.Helper()
		resp, err := cli.Put(t.Context(), key, value)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	put(`{"rate":200}`)
	old, err := oldLimits(t.Context(), cli, key)
	if err != nil {
		t.Fatal(err)
	}
	limits, err := newLimits(t.Context(), cli, key)
	if err != nil {
		t.Fatal(err)
	}
	defer limits.Close()
	if old.Load().Rate != 200 || limits.Get().Rate != 200 {
		t.Errorf("%v, %v", old.Load(), limits.Get())
	}
	put(`{"rate":300}`)
	etcdtest.Eventually(t, soon, "both have the change", func(context.Context) error {
		if old.Load().Rate == 300 && limits.Get().Rate == 300 {
			return nil
		}
		return errEnough
	})
	// What would stop the program is taken by the old form, and refused by the new one.
	put(`{"rate":0}`)
	etcdtest.Eventually(t, soon, "both have seen it", func(context.Context) error {
		if old.Load().Rate == 0 && errors.Is(limits.Err(), config.ErrRefused) && limits.Get().Rate == 300 {
			return nil
		}
		return errEnough
	})
}

func TestTheQueueIsMovedOver(t *testing.T) {
	t.Parallel()
	cli, prefix := own(t)
	q := queue.New[string](cli, prefix, nil)
	for _, item := range []string{"one", "two", "three"} {
		if err := oldPush(cli, prefix, item); err != nil {
			t.Fatal(err)
		}
	}
	// The old form has lost what its handler has failed with.
	if err := oldWork(t.Context(), cli, prefix, func(context.Context, string) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	moved := 0
	for {
		ok, err := moveOne(t.Context(), cli, prefix, q)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		moved++
	}
	if err := newPush(t.Context(), q, "four"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, ended := make(chan string, 10), make(chan error, 1)
	failed := false
	go func() {
		ended <- newWork(ctx, q, func(_ context.Context, item string) error {
			if !failed { // it is delivered again, behind those that do not wait
				failed = true
				return errEnough
			}
			done <- item
			return nil
		})
	}()
	var got []string
	for range 3 {
		got = append(got, etcdtest.Receive(t, soon, "a job", done))
	}
	cancel()
	if err := etcdtest.Receive(t, soon, "the worker's end", ended); err != nil {
		t.Error(err)
	}
	if moved != 2 || strings.Join(got, " ") != "three four two" {
		t.Errorf("%d moved; %v", moved, got)
	}
	etcdtest.WaitKeys(t, time.Second, cli, prefix+"/", 0)
}
