// Package queuecli is the command line of queues: etcdkit queue.
//
// Every command is a function of a [use], which is connected and knows where to read and to print. What a command has done, or was asked
// for, goes to standard output, as a table or, with -o json, as objects of which the fields are in json.go. What it asks and complains
// of goes to standard error. Items are printed by peek and dead, and by no other; nothing of them gets into an error.
package queuecli
