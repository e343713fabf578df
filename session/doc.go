// Package session keeps an etcd lease and knows, at every moment, for how long it may be relied on.
//
// # Model
//
// Everything that belongs to a process for as long as the process lives (a lock, a term, a registration)
// hangs on a lease: etcd deletes its keys when nobody renews it for a TTL. A [Session] is one lease and the
// goroutine that renews it.
//
//	trusted until = send time of the last acknowledged renewal + min(requested, granted TTL) - margin
//
//	send      acknowledged                           trust ends   lease can expire
//	  |-----------|--------------------------------------|--margin--|
//	  |<------------------------ TTL ------------------------------>|
//
// The server counts from when it processed the renewal, which is not before the request was sent and unknown
// to the client; so the client counts from sending. The time is read from a clock that a suspended machine
// does not stop and that nobody can set.
//
// Renewals are sent every third of the TTL, counted from the last one sent. One that stays unanswered for
// half a second is not waited for: two more go out beside it, to one endpoint and the next, so that one hung
// member cannot eat the window.
//
// # Promise
//
// [Session.Context] ends, with a cause, before etcd can give what hung on the lease to anybody else: under
// partition, latency, loss of the leader and restart of the servers. Its Err compares the clock at every
// call, so that the first check after a suspension (when no timer has run yet) is already true.
//
// A session that has ended stays ended. What must stop on loss is given a session; what must go on takes a
// [Keeper], which opens the next one when it is asked.
//
// # Limits
//
// Three events free the keys before the client can know: a lease revoked by somebody else, a key deleted by
// somebody else, and a frozen process. For them only the tokens of package fence protect. The first two are
// noticed with the next renewal at the latest, and by the recipes within a second.
//
// A change of etcd's leader renews every lease on the server: a dead owner's keys then live up to one TTL
// longer, never shorter.
package session
