// Package lock excludes: of all processes that lock a name, one at a time goes on.
//
// # Model
//
// A [Mutex] is a name and a source of sessions. Whoever locks it puts one key name/<lease>-<n> in line, bound
// to the session's lease; the oldest key holds. Held locks are [Held] values with a context, which ends when
// the lock is lost, and a [fence.Guard], whose token is larger than that of every holder before.
//
// The layout of keys is that of etcd's own concurrency.Mutex, of etcdctl lock and of the server's lock service:
// all of them exclude each other.
//
// # Promise
//
//   - Waiters get the lock in the order in which etcd saw them come.
//   - The holder's context ends, with a cause, before anybody else can hold the lock: under partition, latency,
//     loss of etcd's leader and restarts. Where etcd frees the key first (the lease was revoked, the key
//     deleted by somebody else) it ends within a second, and after a freeze of the process on the first check.
//   - What must not happen twice goes through the guard: a write that comes too late is refused. See package
//     fence; there is deliberately no IsHeld, whose answer is stale when it returns.
//   - A lock is never given back half: Unlock deletes this acquisition only, and says [fence.ErrLost] if it had
//     been lost before.
//   - A wait that is cancelled ends within a quarter of a second, also while etcd cannot be reached, and leaves
//     nothing in line.
//
// # Limits
//
// Locks are not reentrant. A holder that locks the same name again under its own context is told so at
// once ([ErrReentrant]); under another context it waits for itself. Two acquisitions through one session exclude
// each other.
//
// A dead holder's lock is free after its session's TTL, later by up to one TTL a change of etcd's leader.
package lock
