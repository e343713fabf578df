// Package cli is what the commands that work on an etcd have in common: how they connect, ask, and print.
package cli
