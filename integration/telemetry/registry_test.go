package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// registryShort makes an instance that died disappear as soon as can be.
var registryShort = &session.Options{TTL: 2 * time.Second}

// registryAdd registers instance id of a service until the test ends.
func registryAdd(t *testing.T, cli *clientv3.Client, service, id string, state registry.State, opts *registry.Options) *registry.Registration {
	t.Helper()
	r, err := registry.Register(t.Context(), cli, registry.Instance{Service: service, ID: id, Addr: "10.0.0.7:80", State: state}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.WithoutCancel(t.Context())) })
	return r
}

// registryView opens a view of a service until the test ends.
func registryView(t *testing.T, cli *clientv3.Client, service string, opts *registry.ViewOptions) *registry.View {
	t.Helper()
	v, err := registry.Watch(t.Context(), cli, service, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// registryLists waits until a service's instances are reported to be so many.
func registryLists(t *testing.T, service string, starting, ready, draining float64) {
	t.Helper()
	for state, want := range map[string]float64{"starting": starting, "ready": ready, "draining": draining} {
		gaugeReads(t, want, "etcdkit.registry.instances", "etcdkit.registry.service", service, "etcdkit.registry.state", state)
	}
}

func TestInstancesAreCountedByState(t *testing.T) {
	const mail, shop = "telemetry/mail", "telemetry/shop"
	cli := etcdtest.Client(t)
	v := registryView(t, cli, mail, nil)
	registryLists(t, mail, 0, 0, 0) // that there are none is known
	registryView(t, cli, shop, nil)

	registryAdd(t, cli, mail, "a", registry.Ready, nil)
	b := registryAdd(t, cli, mail, "b", registry.Ready, nil)
	registryAdd(t, cli, mail, "c", registry.Starting, nil)
	registryLists(t, mail, 1, 2, 0)
	registryLists(t, shop, 0, 0, 0)
	if err := b.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	registryLists(t, mail, 1, 1, 1)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	registryLists(t, mail, 1, 1, 0)

	// Who reads with other options has the same instances in a list of his own.
	other := registryView(t, cli, mail, &registry.ViewOptions{HoldOnMassLoss: -1})
	again := registryView(t, cli, mail, nil)
	registryLists(t, mail, 1, 1, 0)
	v.Close()
	other.Close()
	registryLists(t, mail, 1, 1, 0)
	again.Close()
	gaugeGone(t, "etcdkit.registry.instances", "etcdkit.registry.service", mail)
	registryLists(t, shop, 0, 0, 0)
}

// A service of which nothing is known has no instances to report, and not none.
func TestAServiceIsNotReportedBeforeItIsKnown(t *testing.T) {
	const service = "telemetry/unknown"
	c := etcdtest.New(t, nil)
	registryAdd(t, c.Client(), service, "a", registry.Ready, nil)
	link := c.Link(0)
	link.Blackhole(etcdtest.Both)
	cli := link.Client()
	opened := make(chan *registry.View, 1)
	go func() {
		defer close(opened)
		if v, err := registry.Watch(t.Context(), cli, service, nil); err == nil {
			opened <- v
		}
	}()
	etcdtest.Eventually(t, gaugeSoon, "the opening is under way", func(context.Context) error {
		if value(t, "etcdkit.follow.lag", "etcdkit.recipe", "registry") == 0 {
			return errors.New("nobody follows the service")
		}
		return nil
	})
	gaugeGone(t, "etcdkit.registry.instances", "etcdkit.registry.service", service)
	link.Drop()
	link.Heal()
	v := etcdtest.Receive(t, gaugeSoon, "the view", opened)
	registryLists(t, service, 0, 1, 0)
	v.Close()
}

// registryHas waits until a service's registrations are reported to be so many.
func registryHas(t *testing.T, service string, present, missing float64) {
	t.Helper()
	for outcome, want := range map[string]float64{"present": present, "missing": missing} {
		gaugeReads(t, want, "etcdkit.registry.registered", "etcdkit.registry.service", service, "etcdkit.outcome", outcome)
	}
}

// registryReturns is how often keys of a service were put back.
func registryReturns(t *testing.T, service string) float64 {
	t.Helper()
	return value(t, "etcdkit.registry.reregistrations", "etcdkit.registry.service", service)
}

func TestARegistrationWhoseKeyGoesIsMissingUntilItIsPutBack(t *testing.T) {
	const service = "telemetry/own"
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	opts := &registry.Options{Session: registryShort}
	key := "services/" + service + "/a"
	before := registryReturns(t, service)
	r := registryAdd(t, link.Client(), service, "a", registry.Ready, opts)
	registryHas(t, service, 1, 0)

	// What is put over the key that is there is no return.
	if err := r.Update(t.Context(), func(i *registry.Instance) { i.Version = "2" }); err != nil {
		t.Fatal(err)
	}
	written := string(etcdtest.WaitKey(t, gaugeSoon, c.Oracle(0), key).Kvs[0].Value)
	if _, err := c.Oracle(0).Put(t.Context(), key, "a stranger's"); err != nil {
		t.Fatal(err)
	}
	etcdtest.Eventually(t, gaugeSoon, "the key is the registration's again", func(ctx context.Context) error {
		resp, err := c.Oracle(0).Get(ctx, key)
		if err != nil || string(resp.Kvs[0].Value) != written || r.Err() != nil {
			return fmt.Errorf("%v, %w, %w", resp, err, r.Err())
		}
		return nil
	})
	if n := registryReturns(t, service) - before; n != 0 {
		t.Errorf("%v returns were counted, and the key was there", n)
	}

	c.Delete(key)
	etcdtest.WaitKey(t, gaugeSoon, c.Oracle(0), key)
	gaugeReads(t, before+1, "etcdkit.registry.reregistrations", "etcdkit.registry.service", service)
	registryHas(t, service, 1, 0)

	// Cut off, it is missing once nobody can vouch for the key, and so it is while another process has it.
	link.Cut()
	registryHas(t, service, 0, 1)
	etcdtest.WaitGone(t, gaugeSoon, c.Oracle(0), key)
	link.Heal()
	registryHas(t, service, 1, 0)
	gaugeReads(t, before+2, "etcdkit.registry.reregistrations", "etcdkit.registry.service", service)

	twin := registryAdd(t, c.Client(), service, "a", registry.Ready, opts)
	registryHas(t, service, 1, 1)
	if err := twin.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	registryHas(t, service, 1, 0)
	gaugeReads(t, before+3, "etcdkit.registry.reregistrations", "etcdkit.registry.service", service)

	c.Revoke(clientv3.LeaseID(etcdtest.WaitKey(t, gaugeSoon, c.Oracle(0), key).Kvs[0].Lease))
	gaugeReads(t, before+4, "etcdkit.registry.reregistrations", "etcdkit.registry.service", service)
	registryHas(t, service, 1, 0)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	gaugeGone(t, "etcdkit.registry.registered", "etcdkit.registry.service", service)
}

// What is hidden as it was asked to be is not missing, and that it shows again is no return.
func TestAnInstanceThatHidesIsNotMissing(t *testing.T) {
	const service = "telemetry/hidden"
	cli := etcdtest.Client(t)
	r := registryAdd(t, cli, service, "a", registry.Starting, &registry.Options{HideUnready: true})
	registryHas(t, service, 1, 0)
	for _, state := range []registry.State{registry.Ready, registry.Starting, registry.Ready} {
		if err := r.Update(t.Context(), func(i *registry.Instance) { i.State = state }); err != nil {
			t.Fatal(err)
		}
		registryHas(t, service, 1, 0)
	}
	if n := registryReturns(t, service); n != 0 {
		t.Errorf("%v returns were counted", n)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}

	// Nor is one that could not be announced.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no time"))
	if _, err := registry.Register(ctx, cli, registry.Instance{Service: service, ID: "b", Addr: "10.0.0.7:80"}, nil); err == nil {
		t.Fatal("it was announced")
	}
	gaugeGone(t, "etcdkit.registry.registered", "etcdkit.registry.service", service)
}
