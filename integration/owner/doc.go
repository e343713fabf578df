// Package owner is the suite of what every owner promises, whatever it owns: a held lock and an election
// term are run through the same tests, and what is true of one is thereby true of the other. Each test
// takes a kind, which is one way to own; a new recipe whose handles carry a fence.Guard joins by adding
// its kind to the list.
//
// Where the behaviour is one that etcd's own client/v3/concurrency is known to lack, the same scenario is run
// against that too and what came of it is logged: so one sees that the test bites.
package owner
