// Package lock holds the tests of etcdkit's package lock against a real etcd: what is the lock's own, beside what the
// owner suite says of every owner.
package lock
