package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// handMade are instances as registries of others write them, by what follows the service's prefix in the key.
var handMade = map[string]string{
	"bare":        "10.0.0.3:80",
	"ip":          `{"ip":"10.0.0.4","port":"80","zone":"eu","weight":7}`,
	"10.0.0.5:80": "",
	"url":         "http://10.0.0.6:80",
}

// anyForm reads all of them, and those of etcd's endpoints and our own.
var anyForm = []registry.Decoder{registry.DecodeJSON, registry.DecodeIPPort, registry.DecodeHostPort, registry.DecodeKey}

// watchDecoded opens a view with decoders for the test's time.
func watchDecoded(t *testing.T, cli *clientv3.Client, prefix string, decoders []registry.Decoder) *registry.View {
	t.Helper()
	v, err := registry.Watch(t.Context(), cli, "mail", &registry.ViewOptions{Prefix: prefix, Decoders: decoders})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// putHandMade puts all of them under a lease of their own, as their registry does.
func putHandMade(t *testing.T, cli *clientv3.Client, prefix string) clientv3.LeaseID {
	t.Helper()
	grant, err := cli.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	for id, value := range handMade {
		if _, err := cli.Put(t.Context(), prefix+"/mail/"+id, value, clientv3.WithLease(grant.ID)); err != nil {
			t.Fatal(err)
		}
	}
	return grant.ID
}

// addresses are those of a snapshot, ordered, each once.
func addresses(s registry.Snapshot) []string {
	var all []string
	for _, i := range s.Instances {
		all = append(all, i.Addr)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAViewReadsManyFormsUnderOnePrefix(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	putHandMade(t, cli, prefix)
	v := watchDecoded(t, cli, prefix, anyForm)
	sees(t, soon, v, "10.0.0.5:80", "bare", "ip", "url")

	ours := mail("ours")
	ours.Addr, ours.State, ours.Version = "10.0.0.1:80", registry.Draining, "2"
	register(t, cli, ours, &registry.Options{Prefix: prefix})
	m, err := endpoints.NewManager(cli, prefix+"/mail")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddEndpoint(t.Context(), prefix+"/mail/theirs", endpoints.Endpoint{Addr: "10.0.0.2:80", Metadata: "text"}); err != nil {
		t.Fatal(err)
	}
	s := sees(t, soon, v, "10.0.0.5:80", "bare", "ip", "ours", "theirs", "url")
	for n, addr := range []string{"10.0.0.5:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.6:80"} {
		if i := s.Instances[n]; i.Addr != addr || i.Service != "mail" {
			t.Errorf("%s is seen as %+v", i.ID, *i)
		}
	}
	if i := s.Instances[2]; i.Zone != "eu" || i.Weight != 7 {
		t.Errorf("ip is seen as %+v", *i)
	}
	if i := s.Instances[3]; i.State != registry.Draining || i.Version != "2" {
		t.Errorf("ours is seen as %+v", *i)
	}
	if i := s.Instances[4]; i.Metadata[""] != "text" || i.Weight != 100 {
		t.Errorf("theirs is seen as %+v", *i)
	}

	// What is no instance in any form is reported and hides nobody; what is further below belongs to other services.
	for id, value := range map[string]string{"bad": "hunter2", "zone-a/10.0.0.8:80": ""} {
		if _, err := cli.Put(t.Context(), prefix+"/mail/"+id, value); err != nil {
			t.Fatal(err)
		}
	}
	etcdtest.Eventually(t, soon, "the malformed one is reported", func(context.Context) error {
		err := v.Err()
		switch {
		case err == nil || !errors.Is(err, registry.ErrMalformed):
			return errors.New("not yet")
		case strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), `"bad"`) || strings.Contains(err.Error(), "zone-a"):
			t.Fatalf("it is reported as %v", err)
		}
		return nil
	})
	sees(t, soon, v, "10.0.0.5:80", "bare", "ip", "ours", "theirs", "url")

	plain := watch(t, cli, "mail", prefix)
	sees(t, soon, plain, "ours", "theirs")
	if err := plain.Err(); !errors.Is(err, registry.ErrMalformed) || !strings.Contains(err.Error(), `"bare"`) {
		t.Errorf("a view of one form says %v", err)
	}
}

// Instances move over one at a time, most in place and one to an ID of another kind. Readers see all of them all the time, and in
// the end need no decoders any more.
func TestAHandMadeRegistryMovesOverInstanceByInstance(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	lease := putHandMade(t, cli, prefix)
	v := watchDecoded(t, cli, prefix, anyForm)
	all := addresses(sees(t, soon, v, "10.0.0.5:80", "bare", "ip", "url"))

	ctx, stop := context.WithCancel(t.Context())
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for s := range v.Changes(ctx) {
			if got := addresses(s); !slices.Equal(got, all) {
				t.Errorf("a reader sees %v only", got)
			}
		}
	}()

	for id, addr := range map[string]string{"bare": "10.0.0.3:80", "ip": "10.0.0.4:80", "url": "10.0.0.6:80", "five": "10.0.0.5:80"} {
		i := registry.Instance{Service: "mail", ID: id, Addr: addr, Version: "2"}
		r := register(t, cli, i, &registry.Options{Prefix: prefix})
		awaits(t, soon, v, id+" has moved", func(s registry.Snapshot) bool {
			return s.Revision >= r.Revision() && slices.ContainsFunc(s.Instances, func(i *registry.Instance) bool { return i.ID == id && i.Version == "2" })
		})
		if err := v.Err(); err != nil {
			t.Error(err)
		}
	}
	// The old registry is switched off, and with it the lease of all that it has put.
	if _, err := cli.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	sees(t, soon, v, "bare", "five", "ip", "url")
	stop()
	<-looked

	plain := watch(t, cli, "mail", prefix)
	if got := addresses(sees(t, soon, plain, "bare", "five", "ip", "url")); !slices.Equal(got, all) || plain.Err() != nil {
		t.Errorf("without decoders there is %v, %v", got, plain.Err())
	}
}

func TestAViewRefusesADecoderThatIsNil(t *testing.T) {
	t.Parallel()
	v, err := registry.Watch(t.Context(), etcdtest.Client(t), "mail", &registry.ViewOptions{Decoders: []registry.Decoder{registry.DecodeJSON, nil}})
	if v != nil || err == nil || !strings.Contains(err.Error(), "decoder 1 refused") {
		t.Errorf("got %v, %v", v, err)
	}
}
