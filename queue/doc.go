// Package queue hands out jobs to workers, each at least once, through etcd. A [Schedule] pushes them by a cron expression; a [Topic] tells
// all its subscribers, where a [Queue] tells one.
//
// # Model
//
// A job is one key. Its name is its place in line: priority, then the time of the push and who pushed. Workers keep a window on
// the head of the line, by one watch and reads of a thousand keys at most, however long the line is; what they take they claim by a
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
// one. A worker that stops gives back what it has not begun, which is no attempt.
//
// Nobody is in charge. Which job falls to which worker each computes for itself, from the line, the claims and who has a handler free; where they
// see these differently, etcd decides in the transaction that claims.
//
// # Promise
//
//   - A push that returned nil has written one job, whatever answers were lost. One that failed says exactly what it has written.
//   - A job that was pushed is delivered until it is acknowledged, dead, or purged: at least once, and with effects in etcd that go
//     through [Delivery.Ack] exactly once.
//   - One delivery at a time owns a job. Its context ends, with a cause, before another can; within a second if somebody else has
//     revoked the worker's lease or deleted its keys. Its token is larger than those of all deliveries before.
//   - Jobs are claimed by priority, then by the time of the push, or when they are due: for one producer in the order of its pushes, across
//     producers as good as their clocks are. A claim never passes over a job of higher priority that was committed more than a second before.
//   - Of the jobs with one Key at most one is in flight, in the same order. Redelivery may reorder.
//   - The jobs of a worker that died are with others a session's TTL later, and at most a second.
//   - What a claim and an acknowledgement cost does not depend on how many jobs wait.
//   - Work goes on for as long as its context does, whatever state etcd is in.
//
// # Limits
//
// etcd holds a few gigabytes, commits some thousand transactions a second, and every job is written to every member's disk: this is for
// thousands to some hundreds of thousands of small jobs beside what etcd is there for. Whoever needs millions of messages,
// large ones, or replay, needs a broker. An item has at most [MaxItem] bytes. To count is not flat: [Queue.Stats],
// [Queue.Peek], [Queue.Purge] and Options.MaxDepth have etcd look at all that there is.
//
// Delivered at least once means that a handler may run again for a job whose effect was seen outside: what is not in etcd takes
// [Delivery.ID] as its idempotency key, or the token of [Delivery.Guard]. It also means that a handler must look at its context.
//
// docs/queues.md is a guide that starts from the task.
package queue
