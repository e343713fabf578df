// Package follow keeps synced local views of keys in etcd.
//
// # Model
//
// A view is a complete copy of one key, some keys, a prefix or several at a known revision, and a stream of the
// differences as it moves on. Views of one range are shared by everything that asks through the same client,
// and counted: one watch, however many observers.
//
//	connect ──► watch "from now" is confirmed ──► read ──► hand on the difference ──► stream
//	   ▲                                                                               │
//	   └── stale: wait, with jitter ◄── closed, compacted, no leader, silent, diverged ─┘
//
// The watch comes first and the read second. A watch that starts at a revision already past is served by
// etcd from a slow path, every 100 ms; a watch from now is served at once, and everything up to the
// read's revision is simply dropped from it.
//
// Whatever interrupts a view is answered in one way: connect anew, read again, and hand on the difference
// to what was known. So compaction, a closed watch, a member without leader, a cut connection and an
// expired token are no cases of their own, and observers never see a gap or a repeated event.
//
// # Promise
//
// Observers see every key's newest state, in order of revision, all of one revision together; keys that
// went away while the view was cut off are seen going. (A view of several single keys has a watch for each, and
// makes neither promise across them. One of several prefixes, or of what [Range.With] adds, makes both: what one
// watch brings is held until the others are known to have passed its revision, and etcd is asked for that at once.)
// A view never gives up by itself. It knows when it was last proven current: etcd is asked for its progress once a
// second for all views of a client, and a stream that stays silent for long is abandoned for a fresh one.
//
// A revision that goes backwards (a restored backup), another cluster behind the endpoints, or an event that does not
// follow from those before raises the view's generation: whoever built on revisions of the past must let go of it. A
// follower that writes tells the view of the revisions it is answered with (Heard), which count as those seen.
//
// # Tails
//
// [Range.Tail] is for who wants to know what happens, and reads by itself what there is, in parts. Nothing is read, held or compared
// with etcd; an interruption is told as a [Change] with Reset, after which the observer reads again as much as it needs.
//
// # Limits
//
// etcd's grpc-proxy does not answer questions for progress: through it a view would be given up and read again every few
// seconds. The whole range is held in memory, but for a tail. A view may be behind by what the network takes, as every read is. What
// changed and changed back while it was cut off is not seen.
package follow
