// Command etcdkit tries, and operates, what the SDK of the same name does on etcd.
package main

import (
	"os"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

func main() {
	child.Main() // a process that minds a command is this program again
	child.Alone()
	// A process that the demo or dev has started becomes what it was started for here.
	etcdproc.Child(orders.Child, orders.Main)
	etcdproc.Main()
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
