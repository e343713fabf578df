// Package election holds the tests of etcdkit's package election against a real etcd: Run, Proclaim, Observe and the
// reading of a line, beside what the owner suite says of every owner.
package election
