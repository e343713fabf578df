// Package chaos holds what etcdkit says of ownership against recorded histories. Workers lock, write under their guard and
// unlock, for as long as a seeded schedule hurts etcd and the ways to it, two faults at a time. What each of them believed, and
// what came of its writes, is written down, and then judged twice:
//
//   - Belief runs from the return of Lock to the first moment at which the worker was told otherwise or called Unlock. At no
//     time may more believe than the lock has room for.
//   - The history is to be one that a single, sequential lock with a register could have shown, in which each write that was
//     accepted is its holder's, tokens rise, and a write of unknown fate happens at any later time or never.
//
// What judges is tested too: on histories made by hand, and on etcd's own concurrency.Mutex under the same faults, whose
// holders are seen to overlap.
package chaos
