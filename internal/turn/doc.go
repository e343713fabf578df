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
// # Waiting
//
// Entering costs one transaction, which also answers who else is there; alone, one owns.
//
// In a short line (16 others or fewer) a waiter follows the whole line as a synced view, shared by all who
// wait through the same client. When the oldest key goes, the event itself tells the next one, without a
// read: a hand-over is one commit and one event. In a long line that would wake everybody each time;
// there a waiter watches the key a few places ahead of it, reads once when that goes, and then watches the
// few older keys that remain. That set can only shrink.
//
// # Owning
//
// A [Hold] ends, with a cause, when the session's trust ends, or when its key is seen to be gone. Its own key
// is watched once the hold has lasted a moment; for every short hold that would cost more than the lock.
//
// # Leaving
//
// Leaving deletes one's own key only, by its create revision, and is tried again until etcd has answered or
// the lease is dead: it can never delete another's place, nor a newer one of one's own. A key is used again only
// when nothing is under way that could still create it.
package turn
