package grpcresolver

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/registry"
)

// instance is a ready one whose address is that of another with the same number.
func instance(id string, number int) *registry.Instance {
	return &registry.Instance{Service: "mail", ID: id, Addr: fmt.Sprintf("10.0.0.%d:80", number), Weight: 100}
}

func in(s registry.State, i *registry.Instance) *registry.Instance {
	i.State = s
	return i
}

func ids(instances []*registry.Instance) string {
	var all []string
	for _, i := range instances {
		all = append(all, i.ID)
	}
	return strings.Join(all, " ")
}

func TestOnlyReadyInstancesAreChosenAndEachAddressOnce(t *testing.T) {
	got := ids(ready([]*registry.Instance{
		in(registry.Draining, instance("a", 1)),
		instance("b", 2),
		in(registry.Starting, instance("c", 3)),
		instance("d", 1), // where one that drains has been
		instance("e", 2), // where b is
		instance("f", 4),
	}))
	if got != "b d f" {
		t.Errorf("chosen are %s", got)
	}
}

func TestAnEndpointCarriesItsInstanceAndItsWeightAndItsAddressNothing(t *testing.T) {
	a, b := instance("a", 1), instance("b", 2)
	a.Weight, a.Zone = 7, "eu"
	s := state([]*registry.Instance{a, b}, maphash.MakeSeed())
	if len(s.Endpoints) != 2 || len(s.Addresses) != 2 || s.ServiceConfig != nil {
		t.Fatalf("got %+v", s)
	}
	for n, e := range s.Endpoints {
		i, ok := InstanceOf(e)
		if !ok || (i != a && i != b) {
			t.Fatalf("endpoint %d has %v, %v", n, i, ok)
		}
		if want := (resolver.Address{Addr: i.Addr}); !reflect.DeepEqual(e.Addresses, []resolver.Address{want}) || !reflect.DeepEqual(s.Addresses[n], want) {
			t.Errorf("addresses %v and %v, want %v", e.Addresses, s.Addresses[n], want)
		}
		if w := weight.FromEndpoint(e).Weight; w != uint32(i.Weight) {
			t.Errorf("%s has gRPC's weight %d", i.ID, w)
		}
	}
	if i, ok := InstanceOf(resolver.Endpoint{}); ok || i != nil {
		t.Errorf("a stranger's endpoint has %v", i)
	}
}

// Else every client with gRPC's default balancer would choose the instance with the first ID.
func TestTheOrderOfEndpointsIsAConnectionsOwnAndStays(t *testing.T) {
	var all []*registry.Instance
	for n := range 10 {
		all = append(all, instance(fmt.Sprint(n), n))
	}
	firsts := map[string]int{}
	for range 1000 {
		seed := maphash.MakeSeed()
		s := state(all, seed)
		firsts[s.Addresses[0].Addr]++
		gone := slices.IndexFunc(all, func(i *registry.Instance) bool { return i.Addr == s.Addresses[3].Addr })
		fewer := state(slices.Delete(slices.Clone(all), gone, gone+1), seed)
		if !reflect.DeepEqual(fewer.Addresses, slices.Delete(slices.Clone(s.Addresses), 3, 4)) {
			t.Fatalf("%v became %v", s.Addresses, fewer.Addresses)
		}
	}
	for addr, n := range firsts { // 100 on average, with a deviation of 9.5
		if n < 50 || n > 150 {
			t.Errorf("%s is first in %d of 1000", addr, n)
		}
	}
	if len(firsts) != len(all) {
		t.Errorf("%d of %d are ever the first", len(firsts), len(all))
	}
}

// A field that is not compared would never reach a balancer.
func TestInstancesAreTheSameIfAllTheirFieldsAre(t *testing.T) {
	full := func() *registry.Instance {
		return &registry.Instance{
			Service: "mail", ID: "a", Addr: "10.0.0.1:80", Zone: "eu", Version: "1", Weight: 7,
			State: registry.Draining, Metadata: map[string]string{"password": "secret"},
		}
	}
	if !full().Equal(full()) || !(carried{full()}).Equal(carried{full()}) {
		t.Error("equal instances are not the same")
	}
	if (carried{full()}).Equal("another attribute") {
		t.Error("it is equal to what is no instance")
	}
	for n := range reflect.TypeFor[registry.Instance]().NumField() {
		field := reflect.TypeFor[registry.Instance]().Field(n)
		if !field.IsExported() {
			continue
		}
		other := full()
		if v := reflect.ValueOf(other).Elem().Field(n); v.IsZero() {
			t.Errorf("%s: this test does not know it", field.Name)
		} else {
			v.SetZero()
		}
		if full().Equal(other) || (carried{full()}).Equal(carried{other}) {
			t.Errorf("%s is not compared", field.Name)
		}
	}
	if got := state([]*registry.Instance{full()}, maphash.MakeSeed()).Endpoints[0].Attributes.String(); strings.Contains(got, "secret") {
		t.Errorf("metadata would be logged: %s", got)
	}
}
