// Package interop holds the tests that etcdkit's locks and elections stand in one line with etcd's own: with
// client/v3/concurrency, and with the lock and election services of the server, which etcdctl and clients in other
// languages use.
package interop
