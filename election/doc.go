// Package election chooses one of many processes to act: a leader.
//
// # Model
//
// Whoever stands for a named election puts one key name/<lease>-<n> in line, with a value that says who it is
// (an address, usually); the oldest key leads. Leading is a [Term], with a context that ends when the term
// does and a [fence.Guard] whose token is larger than that of every term before. Losing a term is final: to
// lead again is to stand again, as a newcomer.
//
//	Run:   stand ──► wait ──► lead(ctx, term) ──► resign ──► return
//	         ▲                     │ term lost: wait for lead to return
//	         └── new session ◄─────┘
//
// The layout of keys is that of etcd's own concurrency.Election, of etcdctl elect and of the server's election
// service: their candidates and ours stand in one line, and observe each other.
//
// # Promise
//
//   - A term's context ends, with a cause, before anybody else can lead: under partition, latency, loss of
//     etcd's leader and restarts. Where etcd frees the key first (the lease was revoked, the key deleted by
//     somebody else) within a second, and after a freeze of the process on the first check.
//   - Writes under the term's guard are refused once somebody else could lead. There is deliberately no
//     IsLeader, whose answer is stale when it returns.
//   - [Run] never gives up, and never runs two lead functions at once. It keeps renewing while lead winds
//     down, and resigns when lead has returned; or under it, if it has not returned within Options.DrainTimeout of
//     the end of ctx.
//   - [Term.TransferTo] makes one who stands the next leader, in one commit: the old term has ended before, and nobody
//     leads in between. Who is passed stands again with a new key, so that tokens rise in every case.
//   - A candidacy that fails or is cancelled leaves nothing in line: nobody is elected who does not know it. One whose
//     key is deleted by somebody else goes on, as a newcomer.
//   - [Observe] never ends by itself, and says so when nobody leads.
//
// # Limits
//
// A dead leader is succeeded after its session's TTL, later by up to one TTL a change of etcd's leader. Terms are
// given by order of arrival, or handed over; there is no priority and no vote. A lead function that does not look at its
// context goes on when others lead: [Health] tells of it, and only the guard stops what it writes.
package election
