// Package snapshotcli is the command line of backups: etcdkit snapshot.
package snapshotcli
