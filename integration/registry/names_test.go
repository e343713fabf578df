package registry_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// segments are what names are made of here: those that look like others, begin like others, or mean something elsewhere.
var segments = []string{
	"a", "a2", "ab", "A", "a.", ".", "...", "..a", "..", "", "a b", " ", "%2F", "a%2Fb", "%00", "*", "[a]", "-", "~", "a\x00b", "\x00", "\xff", "a\xff",
	"a\nb", "\u202ea", "\u05d0", "\U0010ffff", "\u00e9", "e\u0301", strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("n", 10<<10),
}

// allowed is the rule for names, written down once more.
func allowed(name string) bool {
	for s := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		if s == "" || s == ".." {
			return false
		}
	}
	return utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// F19: whatever services and instances are called, either the name is refused and nothing sent, or there is exactly one key, below
// the prefix, and exactly the views of that service see exactly that ID.
func TestNoNameLeadsToAnotherServicesInstances(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	var calls etcdtest.Calls // of what is refused
	refusing := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	cli, oracle, prefix := etcdtest.Client(t), etcdtest.Client(t), under(t)
	one := func() string { return segments[rng.IntN(len(segments))] }
	names := map[string]bool{"a": true, "a2": true, "a/a": true, "/a": true, "a/": true, "": true, "/": true, "..": true}
	for len(names) < 120 {
		name := one()
		for range rng.IntN(3) {
			name += "/" + one()
		}
		names[name] = true
	}
	wanted := map[string]string{} // the one ID of each service
	refused := 0
	for name := range names {
		id := one()
		i := registry.Instance{Service: name, ID: id, Addr: "10.0.0.7:80"}
		ok := allowed(name) && allowed(id) && len(id) <= 255
		by := cli
		if !ok {
			by = refusing
		}
		r, err := registry.Register(t.Context(), by, i, &registry.Options{Prefix: prefix})
		if ok != (err == nil) {
			t.Fatalf("service %q, ID %q: %v", name, id, err)
		}
		if err != nil {
			refused++
			if !allowed(name) {
				if v, err := registry.Watch(t.Context(), refusing, name, &registry.ViewOptions{Prefix: prefix}); err == nil {
					v.Close()
					t.Errorf("service %q cannot be registered, and is watched", name)
				}
			}
			continue
		}
		t.Cleanup(func() { _ = r.Close(t.Context()) }) // which is done, and then enough for a cluster that is well
		wanted[name] = id
	}
	if n := calls.Sent(); n > 0 {
		t.Errorf("%d calls were sent for what was refused: %v", n, calls.Counts())
	}
	if refused < 10 || len(wanted) < 10 {
		t.Errorf("%d names refused and %d taken: that proves little", refused, len(wanted))
	}
	etcdtest.WaitKeys(t, soon, oracle, prefix+"/", len(wanted))
	for name, id := range wanted {
		v := watch(t, cli, name, prefix)
		if s := sees(t, soon, v, id); s.Instances[0].Service != name {
			t.Errorf("service %q sees %+v", name, *s.Instances[0])
		}
		if err := v.Err(); err != nil {
			t.Errorf("service %q: %v", name, err)
		}
	}
	counted, err := registry.Services(t.Context(), cli, &registry.ViewOptions{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	for name := range wanted {
		if counted[name] != 1 {
			t.Errorf("service %q is counted as %d", name, counted[name])
		}
	}
	if len(counted) != len(wanted) {
		t.Errorf("%d services are counted, and there are %d", len(counted), len(wanted))
	}
}
