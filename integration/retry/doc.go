// Package retry holds the tests of etcdkit's package retry against a real etcd: what its policies promise when endpoints
// refuse, are mute or hang, when members lose their leader, and when answers are lost.
package retry
