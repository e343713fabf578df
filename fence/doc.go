// Package fence carries proof of ownership from etcdkit's recipes to the place where work is written.
//
// # Model
//
// A held lock, an election term and a work claim each stand on one etcd key that dies with its owner's
// lease. The revision at which that key was created is the owner's fencing [Token]: etcd's revisions only
// grow, so whoever owns later has the larger token, even across different locks. A [Guard] is the pair of
// both, plain data that may be logged, stored or sent to another process.
//
// # Promise
//
// No client can know that it still owns something at the moment its write arrives: it may have been
// frozen, or cut off, for longer than its lease between the check and the write. So the check travels with
// the write, to whoever can decide:
//
//   - etcd itself: [Guard.Commit] and [Guard.KV] write only while the key still exists as it was created,
//     in one transaction. [Guard.Cmp] is the same condition for a transaction of the caller's own.
//   - a store outside etcd: send the [Token] along, and let the store refuse any token below the highest it
//     has seen. [Watermark] is that rule in memory; in SQL it is one more condition of the UPDATE.
//
// A refused write returns [ErrLost], and nothing was written.
//
// # Limits
//
// Between the end of an owner's trust and the server's expiry of its lease a guarded commit may still
// succeed. That is safe: nobody else can own yet. Tokens compare within one etcd cluster only, and may
// regress after a snapshot was restored without raising its revision (etcdutl's --bump-revision).
// Side effects that neither etcd nor a token-checking store sees (an e-mail, a motor) cannot be fenced.
package fence
