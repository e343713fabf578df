// Package batch writes thousands of one's own keys in as few transactions as etcd allows. It is not atomic: what one
// transaction of it writes and what the next one writes are seen one after the other, and one may fail without the other.
//
// # Model
//
// A [Writer] takes single puts and deletes, and sends them many at a time:
//
//	Put, Delete ──► buffer ──► transaction of at most MaxOps and MaxBytes ──► etcd
//	   │            one entry     │ at most InFlight at a time
//	   ▼            a key         ▼
//	Pending ◄───── its fate: applied at revision N, not applied, unknown
//
// A transaction goes out when it is full, when its oldest operation has waited for company for Interval, or when
// somebody waits: in Flush, in Close, or for room in a full buffer. Operations on a key that is still in the buffer
// coalesce: the last one is sent, in the place of the first. Those on a key whose transaction is under way
// wait for that one's fate.
//
// # Promise
//
//   - Every operation that was taken gets its fate. A [Pending] tells it of one; Flush and Close tell of
//     what was not applied.
//   - Operations on one key are sent in the order in which they were made, each only after the one before has its fate,
//     though transactions overtake each other. The operations of one goroutine are made one after the other.
//   - Nothing that may have been written is written again, unless Options.Sole says that this is harmless: a lost answer
//     is the fate [ErrUnknown]. What etcd refused before it wrote is tried again under Options.Retry.
//   - One operation that etcd refuses (no permission, too large for its limits) does not condemn the others of its
//     transaction: that is sent again in parts until the guilty one is alone.
//   - Memory is bounded. When MaxBuffered is reached, Put and Delete wait for room.
//   - Close returns promptly when its context ends and leaves no goroutine, whatever state etcd is in.
//
// # Limits
//
// Nothing is atomic across transactions, and which operations share one is not for the caller to choose. What has to
// happen together belongs into a transaction of the caller's own.
//
// An operation whose fate is unknown may be applied later than it was given up, and then over a later one on the same
// key. It takes no more than a connection that breaks:
//
//	Put(k, 1)  sent; the connection breaks         unknown
//	Put(k, 2)  sent on the next connection         applied at revision 7
//	           the member comes to the first one   k is 1, at revision 8
//
// So read before building on a key whose fate was unknown. Writes that must not come too late go through a guard:
// New(guard.KV(client), ...), see package fence; with MaxOps 127, as the guard is an operation more.
//
// The client repeats writes by itself that were answered with the codes Canceled or DeadlineExceeded, which etcd does
// not send in answer to a live request but a proxy might. And it tells nobody whether a request that ran into its
// timeout was ever sent: while etcd cannot be reached at all, what is in flight is unknown and not "not applied".
// A client with retry.DialOptions, as package pool opens, does neither. After an outage gRPC dials again when it sees fit,
// up to two minutes later; a Writer cannot hurry it, and gives operations up until then.
//
// A full database (NOSPACE) is the fate ErrUnknown with etcd's error: etcd may say so of a write that it has applied. It
// lets transactions pass that only delete; use a Writer that does nothing else to make room.
//
// Deletes are of single keys.
package batch
