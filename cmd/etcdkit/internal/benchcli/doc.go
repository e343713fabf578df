// Package benchcli is the command line that measures a cluster: etcdkit bench.
package benchcli
