// Package fence holds the tests of etcdkit's package fence against a real etcd: what a guard lets through, and that what it
// does not let through writes nothing.
package fence
