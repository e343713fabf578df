// Package snapshotcli is the command line of backups: etcdkit snapshot. The work is done by package snapshot.
package snapshotcli
