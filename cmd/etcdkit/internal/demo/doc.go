// Package demo shows on one machine, in half a minute, what etcdkit promises, and checks it.
//
// # Model
//
// The demo starts an etcd cluster of three members and three processes of the orders service (package orders), each a
// process of its own, and then does to them what happens to such systems: a bad configuration, processes killed,
// frozen and stopped. It is an audience, too, and believes nobody:
//
//	services ── events on stdout ──┐
//	                               ├──► record ──► evidence ──► check ──► finding ──► summary
//	etcd ── every revision, by a ──┘
//	        plain client's watch
//
// A step (step_*.go) acts, and waits. A check (check_*.go) is a function of the evidence alone: it replays etcd's
// history, and takes a service's word only where etcd cannot know, or to compare both. So every check is
// tested against evidence that was made up, and seen to refuse it.
//
// # Promise
//
// [Run] returns nil only if everything held. Whatever happens, it leaves no process and no directory behind, but for
// etcd's logs if something did not hold; a parent that is killed takes its children along.
//
// # Limits
//
// Times are those of one machine, and of members that do not sync to disk. Only what is promised is judged: the
// order of tokens, what was refused, what was kept; of times, that an answer came before a lease could have expired,
// where that is the promise.
package demo
