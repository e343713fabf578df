// Package benchcli is the command line that measures a cluster: etcdkit bench.
//
// A measurement is an operation that is done again and again by as many workers as --clients says, at a bounded rate all together. What
// it writes is below a prefix of the run's own and bound to leases of its own: it is deleted at the end, however that comes, and by etcd
// if the process is killed.
package benchcli
