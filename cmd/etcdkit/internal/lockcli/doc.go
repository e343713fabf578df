// Package lockcli is the command line of locks and elections around a command: etcdkit lock and etcdkit elect.
//
// Both are a [holder]: it gets something to hold ([kind], in lock.go and elect.go), runs the command while it holds it, and gives it
// back. The session belongs to it, so that it knows until when there is trust; package child keeps the command to that.
package lockcli
