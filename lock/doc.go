// Package lock excludes: of all processes that lock a name, one at a time goes on; or as many as the kind of lock lets.
//
// # Model
//
// A lock is a name and a source of sessions, without state of its own. Whoever locks it puts one key in line below the name, bound
// to the session's lease. Who holds is told by the line alone, in the order of creation: the first in line, and those after it
// that get along with all before them. The first that does not holds back everybody behind it.
//
//	Mutex         one at a time
//	RWMutex       any number of readers, or one writer
//	Semaphore     so many that their weights come to no more than its size
//	Multi         several Mutexes, held together or not at all
//
//	                 hold                      wait
//	Mutex         [ w ]                     [ w ] [ w ]
//	RWMutex       [ r ] [ r ]               [ w ] [ r ]
//	Semaphore, 3  [ 2 ] [ 1 ]               [ 2 ] [ 1 ]
//
// Held locks are [Held] values with a context, which ends when the lock is lost, and a [fence.Guard], whose token is larger
// than those of all who came before. A writer and a Mutex of the same name are the same, and take a semaphore whole. What shares
// a name must agree: a semaphore of another size, or readers beside a semaphore, are refused ([ErrSize]).
//
// The layout of keys is that of etcd's own concurrency.Mutex, of etcdctl lock and of the server's lock service: they take the
// lock whole, and exclude ours and each other.
//
// # Promise
//
//   - Waiters get the lock in the order in which etcd saw them come. A writer is not passed by readers for ever, nor one who wants
//     many permits by those who want few.
//   - The holder's context ends, with a cause, before anybody else can hold in its place: under partition, latency, loss of etcd's
//     leader and restarts. Where etcd frees the key first (the lease was revoked, the key deleted by somebody else) it ends
//     within a second, and after a freeze of the process on the first check.
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
// each other. A reader does not become a writer: it unlocks first, and what it has read may change in between.
//
// Those who hold together have tokens that are valid side by side. Their guards prove that they hold; [fence.Watermark], and a
// store that compares tokens as it does, are for a Mutex and a writer only.
//
// A dead holder's lock is free after its session's TTL, later by up to one TTL a change of etcd's leader.
//
// docs/locks.md is a guide that starts from the task.
package lock
