// Package batch holds the tests of etcdkit's package batch against a real etcd. Whatever a Writer says of an operation is
// held against etcd's own history of the key.
package batch
