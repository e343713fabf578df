// Package registry lets services announce where they are, and find each other.
//
// # Model
//
// An [Instance] is one key <prefix>/<service>/<id> with a JSON value. [Register] announces one: its key hangs on
// the lease of a session, so that an instance that died is gone after a TTL. [Watch] opens a [View] of all instances of
// one service, which is kept up to date and read without I/O; a [Picker] chooses among them, and a [Transport] sends HTTP
// requests to them. For gRPC there is package grpcresolver.
//
//	Register, Drain ──► etcd: services/mail/a ──► View ──► Snapshot, Changes, Diffs ──► Picker ──► Transport
//	   ▲                   │ lease lost, deleted,   ▲
//	   └───── again ◄──────┘ overwritten            └─ a copy on disk, while etcd is away
//
// The layout is that of etcd's own client/v3/naming/endpoints: a gRPC client with etcd's resolver finds what is
// registered here under etcd:///services/mail, and a View finds what an endpoints.Manager has added.
//
// # Promise
//
//   - An instance is in etcd when Register returns, and stays there until Close: the registration puts it back, on the
//     same key, when its lease was lost, its key deleted or overwritten, or etcd was away for however long. It never
//     gives up.
//   - When the lease was lost but lives on in etcd, as after an outage, the key moves to the next lease
//     before the old one is given back: readers do not see the instance go.
//   - Of two live processes with the same ID the one that registered last has it. The other one says so
//     ([ErrReplaced]) and does not fight; it comes back when that one has gone.
//   - After an outage of etcd the instances of a fleet are written one by one, over a third of the TTL or more.
//   - With health checks an instance is Starting until each of them has passed, and again while one fails. One failed
//     probe takes nobody out.
//   - Who leaves says so first (Draining), and is told apart from who died.
//   - An operator can take an instance out of traffic, and back, without touching its process ([Ask]).
//   - A view that is cut off keeps the last instances known and says that they are stale. What it missed comes as the exact
//     difference: also after a compaction.
//   - A view that lists anybody does not become empty until a linearizable read has confirmed it; and when most instances
//     vanish at once, without a goodbye, they are kept for a while.
//   - A malformed value hides nobody else, and is reported by Err.
//   - A change costs a decode of what changed and a copy of one pointer an instance, once for all views of a service
//     through one client. Without changes nothing is sent but renewals and a question for progress.
//
// # Choosing
//
// A [Picker] chooses among the instances that are Ready: in turn, by weight, the less loaded of two, or by a key. It prefers the
// caller's zone for as long as that has its share of the capacity, and leaves out for a time who fails five times running; at
// most half of them, since then it is the caller that has a problem.
//
// # Limits
//
// An instance that is listed may be dead: for a TTL, and by up to another one a change of etcd's leader. One that
// is announced may be not listed yet by a view that is a network's delay behind. So a caller must be ready for the
// next instance to try, as a [Transport] is.
//
// Instances below another service's name (services/shop/cart/a for the service shop) are not its own. A value is at most
// 64 KiB. Values are not secret, and not trusted: whoever may write below the prefix can announce anything.
package registry
