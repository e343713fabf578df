package grpcresolver

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/registry"
)

// InstanceOf returns the instance that an endpoint leads to, for balancers that choose by weight, zone or metadata, and
// false if the endpoint does not come from this package. The instance is shared and must not be written to. A balancer gets
// endpoints in balancer.ClientConnState, or from endpointsharding.ChildStatesFromPicker, and newer ones
// when an instance has changed: addresses carry nothing, as a change to one would be another connection.
func InstanceOf(e resolver.Endpoint) (*registry.Instance, bool) {
	c, ok := e.Attributes.Value(key{}).(carried)
	return c.instance, ok
}

// key is that of an endpoint's attribute.
type key struct{}

// carried is the attribute's value.
type carried struct{ instance *registry.Instance }

// Equal makes attributes equal if the instances are, as (*attributes.Attributes).Equal asks for.
func (c carried) Equal(o any) bool {
	other, ok := o.(carried)
	return ok && c.instance.Equal(other.instance)
}

// String is what gRPC logs: no metadata, which is the application's.
func (c carried) String() string { return c.instance.ID }

// ready returns the instances that may be given work, and of those with the same address the first.
func ready(all []*registry.Instance) []*registry.Instance {
	chosen := make([]*registry.Instance, 0, len(all))
	taken := make(map[string]struct{}, len(all))
	for _, i := range all {
		if _, twice := taken[i.Addr]; !twice && i.State == registry.Ready {
			taken[i.Addr] = struct{}{}
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// withThoseBefore returns the instances, and those of the list before them whose addresses are not among theirs, ordered
// by ID as well.
func withThoseBefore(now, before []*registry.Instance) []*registry.Instance {
	all := ready(slices.Concat(now, before))
	slices.SortStableFunc(all, func(a, b *registry.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// state is what gRPC gets for instances: an endpoint each with all about it, and the address alone for balancers
// that do not know endpoints. The order is the seed's, and stays the same for those that stay.
func state(instances []*registry.Instance, seed maphash.Seed) resolver.State {
	type ranked struct {
		rank     uint64
		instance *registry.Instance
	}
	order := make([]ranked, len(instances))
	for n, i := range instances {
		order[n] = ranked{maphash.String(seed, i.Addr), i}
	}
	slices.SortFunc(order, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })

	s := resolver.State{
		Endpoints: make([]resolver.Endpoint, len(instances)),
		Addresses: make([]resolver.Address, len(instances)),
	}
	for n, o := range order {
		address := resolver.Address{Addr: o.instance.Addr}
		e := resolver.Endpoint{
			Addresses:  []resolver.Address{address},
			Attributes: attributes.New(key{}, carried{o.instance}),
		}
		s.Endpoints[n] = weight.Set(e, weight.EndpointInfo{Weight: uint32(o.instance.Weight)}) // from 1 to a million
		s.Addresses[n] = address
	}
	return s
}

// census counts a snapshot's instances by state, for people.
func census(s registry.Snapshot) string {
	var starting, draining int
	for _, i := range s.Instances {
		switch i.State {
		case registry.Ready:
		case registry.Starting:
			starting++
		case registry.Draining:
			draining++
		}
	}
	return fmt.Sprintf("%s: %d registered, %d starting, %d draining", s.Source, len(s.Instances), starting, draining)
}
