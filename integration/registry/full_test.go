package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

// F13: while the database is full, whoever leaves can leave, leases are renewed, nobody else's instance is lost, and who waits to
// be announced again does so without a hot loop. When there is room again, they are back, and what was refused is not.
func TestAFullDatabaseKeepsNobodyFromLeavingAndLosesNobody(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	opts := &registry.Options{Session: short}
	var calls etcdtest.Calls // of the one that will wait, and not by chance
	waits := register(t, c.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), mail("waits"), &registry.Options{Retry: retry.Policy{Jitter: 0.01}})
	stays := register(t, c.Client(), mail("stays"), opts)
	shared := c.Client()
	register(t, shared, mail("shares"), opts) // a session with one that closes, so that the key itself is deleted
	closes := register(t, shared, mail("closes"), opts)
	alone := register(t, c.Client(), mail("alone"), opts) // leaves by its lease
	drains := register(t, shared, mail("drains"), opts)
	// Who cannot say goodbye is a loss: so many of them would be held.
	v := open(t, c.Client(), &registry.ViewOptions{HoldOnMassLoss: -1})
	sees(t, soon, v, "alone", "closes", "drains", "shares", "stays", "waits")
	before := get(t, oracle, "services/mail/stays")

	c.FillUp()
	for _, r := range []*registry.Registration{closes, alone} {
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	// Nobody can be told, so that there is nothing to wait for; and that is said at once.
	var err error
	etcdtest.Returns(t, 2*time.Second, "Drain", func() { err = drains.Drain(t.Context(), time.Minute) })
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("Drain says %v", err)
	}
	if err := drains.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	sees(t, soon, v, "shares", "stays", "waits")
	etcdtest.Returns(t, 2*time.Second, "Register", func() { _, err = registry.Register(t.Context(), c.Client(), mail("new"), opts) })
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("Register on a new session says %v", err)
	}
	if _, err = registry.Register(t.Context(), shared, mail("new"), opts); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("Register on a session that is there says %v", err)
	}

	c.Revoke(clientv3.LeaseID(get(t, oracle, "services/mail/waits").Lease))
	etcdtest.Eventually(t, soon, "the one that waits knows why", func(context.Context) error {
		if !errors.Is(waits.Err(), rpctypes.ErrNoSpace) {
			return errors.New(errText(waits.Err()))
		}
		return nil
	})
	pass(2 * time.Second) // the first waits are short
	calls.Reset()
	const during = 4 * time.Second
	pass(during) // which is longer than the TTL
	// They are 0.8 to 1.7 s apart.
	if n := calls.Count("LeaseGrant") + calls.Count("Txn"); n < 1 || n > 4 {
		t.Errorf("%d attempts in %v: %v", n, during, calls.Counts())
	}
	sees(t, soon, v, "shares", "stays")
	if err := stays.Err(); err != nil {
		t.Error(err)
	}
	if after := get(t, oracle, "services/mail/stays"); after == nil || after.ModRevision != before.ModRevision {
		t.Errorf("%v became %v", before, after)
	}

	c.FreeUp()
	healthy(t, 5*time.Second, waits)
	sees(t, soon, v, "shares", "stays", "waits")
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	// What was refused does not come later, and has left no lease behind.
	etcdtest.Eventually(t, soon, "three leases are left", func(ctx context.Context) error {
		resp, err := oracle.Leases(ctx)
		if err == nil && len(resp.Leases) != 3 {
			err = errors.New("there are " + pbText(resp.Leases))
		}
		return err
	})
	etcdtest.WaitKeys(t, soon, oracle, "services/", 3)
}

func pbText(leases []clientv3.LeaseStatus) string {
	all := &pb.LeaseLeasesResponse{}
	for _, l := range leases {
		all.Leases = append(all.Leases, &pb.LeaseStatus{ID: int64(l.ID)})
	}
	return all.String()
}
