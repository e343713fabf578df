// Package configcli is the command line of configuration: etcdkit config.
//
// Every command is a function of a [use], which is connected and knows where to read and to print. What a command
// has done, or was asked for, goes to standard output, as a table or, with -o json, as objects of which the fields
// are in json.go. What it asks, shows on the way and complains of goes to standard error.
//
// Values are printed by the commands that are for that (get, diff, watch, export, and whatever shows a difference
// before it asks), and by no other; nothing of them gets into an error.
package configcli
