// Package interop holds the tests that etcdkit's locks and elections stand in one line with etcd's own: with
// client/v3/concurrency, with etcdctl lock and etcdctl elect as processes of their own, and with the lock and election services
// of the server, which clients in other languages use.
package interop
