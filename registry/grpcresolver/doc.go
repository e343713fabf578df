// Package grpcresolver lets gRPC clients find what package registry has announced.
//
//	conn, err := grpc.NewClient("etcdkit:///mail",
//		grpc.WithResolvers(grpcresolver.New(etcd, nil)),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), ...)
//
// # Model
//
// The target is etcdkit:///<service>, and the service may hold slashes (etcdkit:///shop/cart). Each connection follows the
// service by a [registry.View], and hands the instances that are ready to gRPC's load balancer: one endpoint an instance,
// one address an endpoint. What happens to an instance in etcd happens to the connection:
//
//	registered, Ready       it is connected to
//	Starting, Draining      it is given no new RPC; those in flight end as they would have
//	gone                    the same
//	another weight, zone    it stays connected, and the balancer is told
//	another address         it is connected to anew
//
// So a rolling restart fails no RPC if each instance drains before it stops: see package registry.
//
// # Promise
//
//   - etcd being away costs no RPC. The last good addresses stay for as long as it takes, and only an answer of etcd
//     removes one: a view that is stale or that was read from disk adds addresses and removes none.
//   - Nor does waking from idleness (grpc.WithIdleTimeout): if etcd is away then, the addresses that a connection of the same
//     builder had last are taken.
//   - If etcd is away from the start, RPCs fail with an error that names the endpoints and how they failed, and those that wait for
//     ready ([grpc.WaitForReady]) wait. It is tried for ever.
//   - A change of one instance disturbs no connection to another. Two instances with the same address are one endpoint.
//
// # Choosing
//
// Which balancer chooses is the caller's to say, by grpc.WithDefaultServiceConfig as above: a service config that came from here
// would replace that one, and with it the caller's retries and timeouts. Without any, gRPC sends everything to one instance
// (pick_first); each connection has the endpoints in an order of its own, so that not all choose the same one. The
// weight of an instance is passed on as gRPC's own attribute, which ring_hash heeds, and pick_first when it shuffles; round_robin
// and weighted_round_robin do not (the latter weighs by the load that servers report). A balancer of your own gets all of the
// instance, its zone and metadata included, by [InstanceOf].
//
// Whether a connected server is healthy is gRPC's own question: "healthCheckConfig" in the service config.
//
// # Limits
//
// When the last ready instance has gone, and etcd says so, RPCs fail at once. With pick_first, and as long as
// there has not been any instance at all, the error says how many there are and in which state; with round_robin it
// is gRPC's own, "no children to pick from".
//
// TLS verifies a server's certificate against the authority, which is the service's name unless grpc.WithAuthority says
// otherwise; what stands in etcd has no say in it. If a proxy is to be used (HTTPS_PROXY), gRPC drops the
// attributes of endpoints: weights, and InstanceOf.
//
// gRPC takes whole lists: a change of one instance costs time that grows with the number of all, here (some 2 ms with 5,000)
// and in the balancer.
//
// gRPC calls its interfaces to resolvers and its attributes experimental: another version of it may need another version of this.
package grpcresolver
