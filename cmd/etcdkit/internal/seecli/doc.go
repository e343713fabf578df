// Package seecli is the command line of what there is: etcdkit ls, inspect and sessions.
package seecli
