package etcdtest

import (
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// Within puts a client into a namespace, with etcd's own wrappers. The client may be closed while watches are being opened,
// which by itself is a data race in the wrapper of its Watcher.
func Within(cli *clientv3.Client, prefix string) {
	cli.KV = namespace.NewKV(cli.KV, prefix)
	cli.Watcher = namespaced{namespace.NewWatcher(cli.Watcher, prefix), cli.Watcher}
	cli.Lease = namespace.NewLease(cli.Lease, prefix)
}

// namespaced is a Watcher whose Close leaves the wrapper out: its watches end with those below.
type namespaced struct {
	clientv3.Watcher
	inner clientv3.Watcher
}

func (n namespaced) Close() error { return n.inner.Close() }
