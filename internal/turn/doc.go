// Package turn is a place in line: what a lock and an election have in common.
//
// # Model
//
// A line is a prefix name/ in etcd. Whoever stands in it has put one key name/<lease>-<n>, bound to a
// lease, and the key with the smallest create revision owns. The next one owns when that key is gone. Keys
// further below (name/a/b) belong to other lines.
//
// This is the layout of etcd's own concurrency.Mutex and concurrency.Election, so theirs and ours stand
// in one line.
//
// # Sharing
//
// A place takes all of the line, or a [Share] of it, which its key's name says: name/~<size>.<weight>-<lease>-<n>. Owners are
// the first in line and those after it for whom there is room; the first for whom there is none holds back all behind. All who
// share a line do so by one size, which the transaction that enters compares.
//
// # Waiting
//
// Entering costs one transaction, which also answers who else is there; with room enough, one owns.
//
// In a short line (6 others or fewer), or one that mostly waits through this client, a waiter follows the whole line as a synced
// view, shared by all who wait through the client. When the oldest key goes, the event itself tells the next one, without
// a read: a hand-over is one commit and one event. In a long line that would wake everybody each time; there a waiter
// watches the keys right ahead of it, and reads once, from any member, when it is about to be its turn: then it knows that
// these are all the older keys, and that set can only shrink. Who shares always follows the line: those ahead of it go in no order.
//
// # Owning
//
// A [Hold] ends, with a cause, when the session's trust ends, or when its key is seen to be gone. What a waiter watches sees its
// key too. Who owned at once has its key watched when the hold has lasted a moment; for every short hold that would cost more
// than the lock.
//
// # Leaving
//
// Leaving deletes one's own key only, by its create revision, and is tried again until etcd has answered or
// the lease is dead: it can never delete another's place, nor a newer one of one's own. A key is used again only
// when nothing is under way that could still create it.
package turn
