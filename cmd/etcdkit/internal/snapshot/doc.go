// Package snapshot takes backups of an etcd, and proves that they can be restored and hold what the cluster holds.
//
// # Model
//
// [Save] streams a member's database into a directory of its own beside the others, checks it against the SHA-256 that the
// member sends behind it, and gives it its name only when that is done and on disk. [Verify] goes further: it
// restores a file as etcdutl does, starts an etcd member of this program on that, and compares what it holds with
// what every member of the cluster says that it holds at the same revision (HashKV), with the same history compacted. [Prune]
// deletes those that are old.
//
// Whatever reads a database does so in a process of its own (package etcdproc): a page that is damaged ends that, and is
// told of. The program must call etcdproc.Main first thing in its main.
//
// # Limits
//
// With authentication on, etcd gives snapshots and hashes to users with the role root only. A snapshot holds everything: all values,
// and the hashes of all passwords. Its files can be read by their owner alone.
//
// HashKV covers keys, values, revisions and which leases keys are on. Leases themselves, users and roles are restored but
// not compared.
package snapshot
