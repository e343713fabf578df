// Package session holds the tests of etcdkit's package session against a real etcd: what its windows, renewals and
// endings promise under latency, black holes, revocation and restored data.
package session
