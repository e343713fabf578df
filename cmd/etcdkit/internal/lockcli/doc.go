// Package lockcli is the command line of locks and elections around a command: etcdkit lock and etcdkit elect.
package lockcli
