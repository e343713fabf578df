// Package pool connects to etcd: it is the one place that dials, and hands out one *clientv3.Client to use everywhere.
//
//	p, err := pool.Open(ctx, pool.Config{Endpoints: []string{"https://etcd-0:2379", "https://etcd-1:2379", "https://etcd-2:2379"}})
//	...
//	defer p.Close(ctx)
//	etcd := p.Client()
//
// # Model
//
// A clientv3.Client sends everything over one connection to each member; so a read of some megabytes holds up the renewal of a
// lease. A pool has connections by the kind of traffic:
//
//	Client().KV, Auth, Cluster ──────────────► unary ─┐
//	Client().Lease ──────────────────────────► lease ─┼─► each member, in turn
//	Client().Watcher ────────────────────────► watch ─┤
//	Do ──────────────────────────────────────► bulk  ─┘   several, opened as needed
//
// The parts of the client are clientv3's own. They are built on connections that the pool can replace while they are used:
// when certificates change, or an endpoint stops answering, a watch goes on at another after the last event it saw, and no call
// fails.
//
// # Promise
//
//   - [Open] returns when a member has answered, or says what each endpoint did, within Retry.ConnectTimeout.
//   - Every call follows Config.Retry, as [retry.DialOptions] says: bounded in connecting and in reading, each attempt at another
//     endpoint, nothing sent twice that could be written twice.
//   - An endpoint that does not answer, or has no leader while others have one, is left out, and taken in again when it is well.
//   - TLS files are read again when they change, the authorities included. Connections are replaced then.
//   - Credentials can come from a callback. One token serves all connections, at most one is being fetched at a time, a JWT is
//     replaced before it expires, and a watch never sees that one has.
//   - Passwords and tokens are in no text, log or error, and go over no connection without TLS unless that is asked for.
//
// # Limits
//
// Do not call Close, SetEndpoints or Sync on the client that is handed out: the pool has the endpoints of its Config. A
// proxy from the environment (HTTPS_PROXY) is not used. A token of etcd's own kind does not say when it expires: the first call
// after that is made twice. What etcd says when it has refused a fresh token too is found by [retry.EtcdError].
//
// Whether an endpoint answers is learned from calls, from the renewals of leases, and from the questions that a view asks once a
// second. Through a pool that carries nothing but watches of clientv3's own, a frozen member is noticed by gRPC's pings, after 13 s.
//
// Client().Maintenance is for single members, and goes through a connection of the client's own, which is not replaced.
package pool
