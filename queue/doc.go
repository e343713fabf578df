// Package queue hands out jobs to workers, each at least once, through etcd.
//
// # Model
//
// A job is one key. Its name is its place in line: priority, then the time of the push and who pushed. Workers keep a window on
// the head of the line, by one watch and reads of a few hundred keys, however long the line is; what they take they claim by a
// key beside the job's, and what is done is deleted with its claim.
//
//	Push ──► job ──► claim ──► handler ──► nil: job and claim are deleted
//	          ▲        │          │
//	          │        │          ├──► error: the job is put back, to wait longer each time; after MaxAttempts it is a dead letter
//	          │        │          └──► retry.Permanent: a dead letter at once
//	          └────────┴── the worker is lost: its claims are undone by the others, and count as attempts
//
// A claim holds for as long as its worker's key does, which hangs on a session's lease. It is deleted, by whoever comes first,
// once that key is gone, and only then can the job be claimed anew: so what a worker died of is counted, also when it was the only
// one.
//
// # Promise
//
//   - A job that was pushed is delivered until it is acknowledged, dead, or purged: at least once, and with effects in etcd that go
//     through [Delivery.Ack] exactly once.
//   - One delivery at a time owns a job. Its context ends, with a cause, before another can; its token is larger than those of all
//     deliveries before.
//   - Jobs are claimed by priority, then in the order of their IDs: for one producer that of its pushes, across producers as good
//     as their clocks are. A claim never passes over a job of higher priority that was committed more than a second before.
//   - Of the jobs with one Key at most one is in flight, in the same order. Redelivery may reorder.
//   - What a claim and an acknowledgement cost does not depend on how many jobs wait.
//   - Work goes on for as long as its context does, whatever state etcd is in.
//
// # Limits
//
// etcd holds a few gigabytes, commits some thousand transactions a second, and every job is written to every member's disk: this is for
// thousands to some hundreds of thousands of small jobs beside what etcd is there for. Whoever needs millions of messages,
// large ones, or replay, needs a broker.
//
// Delivered at least once means that a handler may run again for a job whose effect was seen outside: what is not in etcd takes
// [Delivery.ID] as its idempotency key, or the token of [Delivery.Guard].
//
// docs/queues.md is a guide that starts from the task.
package queue
