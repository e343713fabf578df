// Package etcdproc runs etcd members, and other children of a program, as processes of their own: what is to be
// killed or frozen must not share a process with who does it. Tests use it, and so do etcdkit's dev and demo
// commands.
//
// # Model
//
// A program is its own child. There is no etcd binary to install: [Spawn] executes the running program again, with
// a name in its environment, and [Main], called first thing there, turns it into what was registered under that
// name with [Child] before it becomes the program. One child is built in, an etcd member on package
// go.etcd.io/etcd/server/v3/embed; [Start] starts one or several of them as a cluster.
//
//	func main() {
//		etcdproc.Child("worker", worker)
//		etcdproc.Main()
//		...
//		c, err := etcdproc.Start(ctx, etcdproc.Config{Members: 3})
//		if err != nil {
//			return err
//		}
//		defer c.Stop(context.Background())
//		w, err := etcdproc.Spawn(etcdproc.Command{Child: "worker", Args: c.Endpoints()})
//		...
//	}
//
// # Promise
//
//   - [Start] and [Cluster.Restart] return when the members serve, or say which does not and why.
//   - [Process.Kill] returns when the process is gone, [Process.Freeze] when it does nothing any more.
//   - No child outlives its parent, not even one that is killed. On Linux that holds for frozen children, too.
//   - A member comes back on the ports it had, without a race for them: see [Ports].
//   - A directory that was given to [Start] is taken up again by a later Start, by another process perhaps: with
//     the data, the members and, if they are free, the ports it had. If they are not, the cluster moves to others.
//   - The terminal stays quiet: members log into files in [Cluster.Dir]. A Ctrl-C reaches the parent alone, which
//     is to stop them.
//
// # Limits
//
// Everything listens on 127.0.0.1, without TLS and without authentication: anyone on the machine can reach it. Up
// to seven members fit. Freezing needs a Unix. The data are kept as by any etcd (unless [Config.NoFsync] is set),
// but members cannot be added or replaced; this is for development and tests, and no way to run etcd.
//
// Where a frozen process is concerned, mind that its kernel is not frozen: connections to it are accepted, and what
// is sent there is acknowledged.
package etcdproc
