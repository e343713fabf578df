// Package retry tries a call to etcd again when that is safe, and says of every error whether it is.
//
// # Model
//
// A failed call leaves one of three situations behind, and the error tells which:
//
//	Transient   nothing was written, and the cause may go away: try again
//	Ambiguous   it may have been written, now or later: only the caller knows whether a repeat is safe
//	permanent   nothing was written and a repeat gets the same answer
//
// classify.go holds the table: every error of etcd and every code of gRPC, each with its reason. The
// gRPC code alone never decides. A mapped etcd error has code Unknown to status.Code, and
// ResourceExhausted is three different things: a refusal before anything happened (transient), a full
// database (ambiguous) and a request too large to send (permanent).
//
// [Do] calls a function under a [Policy]: so many attempts, so much time over all of them, so much for
// each, full-jitter waits between them. Each attempt has a timeout of its own, which grows: an endpoint
// that hangs then costs the first attempt and not the whole call, because the next attempt meets
// another one.
//
// [Backoff] is the waits of a Policy alone, for what repairs itself for ever. A [Budget] and a [Breaker] are shared by
// calls: the one bounds their repeats, the other has them fail at once while etcd is down.
//
// [DialOptions] gives a Policy to every call of a clientv3.Client. [Commit] finds out what became of a transaction whose
// answer was lost.
//
// # What is promised
//
// Nothing ambiguous is tried again unless the Policy says that the call is idempotent
// ([Idempotent]). An attempt that may have been applied is not forgotten: when a later attempt fails for
// a harmless reason, the error of Do stays [Ambiguous]. An error after the caller's context ended is
// never tried again, and carries both the context's cause and the last attempt's error.
//
// # Limits
//
// The default Policy is for a single call that somebody waits for; it gives up. The client retries on
// its own below Do (go.etcd.io/etcd/client/v3 repeats reads, and writes that were answered with
// Canceled or DeadlineExceeded), so one attempt may be several on the wire; with DialOptions it does
// not. An error that no row of the table knows counts as permanent.
package retry
