// Package etcdtest runs real etcd clusters inside a test's own process, and hurts them: for the tests of etcdkit
// and for those of programs that use it.
//
// # Model
//
// Most tests want an etcd and no trouble. They share one one-member cluster a package, and keep out of each other's
// way by a key prefix each; they may be parallel:
//
//	func TestMain(m *testing.M) { etcdtest.Main(m) }
//
//	func TestOrders(t *testing.T) {
//		t.Parallel()
//		cli, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
//		...
//	}
//
// A test that wants trouble starts a cluster of its own. There are three places where it can be hurt:
//
//	clientv3 ─── Calls ─────── Link ─────────── member 0 ─── Partition ─── members 1, 2
//	             one call      one network      Stop, Restart,
//	             fails, is     path: Cut,       Compact, Revoke, Delete, FillUp,
//	             held, is      Drop, Delay,     Backup, Restore
//	             counted       Blackhole
//
//	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
//	link := c.Link(0)
//	cli := link.Client()
//	...
//	link.Blackhole(etcdtest.Responses) // requests are carried out, answers are lost
//
// [Calls] is the finest: it picks one call by its name and number and loses its answer after the commit. [Link]
// does what networks do, to one client or several, and is exact: what has not passed when a switch returns does not
// pass. The methods of [Cluster] hurt members and data behind every client's back, and [Cluster.Oracle] sees what
// is true meanwhile. A member that has to be killed, or frozen, must be a process: that is package etcdproc, and
// [NewLink] leads there too.
//
// WaitQueueEmpty, DrainQueue and WaitDeadLetters are for tests of programs that push to queues, or work on them.
//
// # Promise
//
//   - Everything is closed when its test ends, in the right order, and [Main] fails a run that leaves a goroutine.
//   - Nothing global is touched, neither the working directory nor the environment: tests with clusters may be
//     parallel, and may have several.
//   - Ports are reserved, not merely found free: a member or a link that was stopped or cut comes back on the same
//     endpoint.
//   - There is no sleeping in order to wait: what the harness waits for itself has a deadline and a message, and
//     [Receive], [Done], [Returns], [WaitKeys] and [Eventually] are for the tests.
//
// # Limits
//
// Members are etcd's own, through its framework go.etcd.io/etcd/tests/v3/framework/integration, but for the way
// they are built: they listen on TCP, run ten times as fast as production (see [Options]), do not sync to disk, and
// share this process's processors with the test: on a busy machine a three-member cluster may lose its leader for
// no other reason. Say nothing about times without production's tick. Stopping a member is orderly towards its own
// disk, so it is not a crash. Partitions are between members; clients reach both sides.
//
// The framework comes without etcd's promise of compatibility; this package follows the version in its go.mod.
package etcdtest
