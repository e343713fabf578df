// Package config keeps a process on the newest good version of what is configured in etcd, and publishes new versions: with a
// history, and step by step, watched by those who run them.
//
// # Reading
//
// A document is the value of one key, as people and tools put it: JSON, YAML, or a bare 8080, info, 30s or
// true. [Open] reads it into a Go type and follows the key; a [Value] always holds the last document that could
// be decoded and that the program's own Validate, and all its subscribers, accepted.
//
//	etcdctl put ──► follow ──► decode ──► Validate ──► prepare ──► Get, Snapshot, Changes ──► commit
//	                              │           │           │
//	                              └── refused ┴───────────┴──────► Err
//
// [Value.Get] is a load from memory. It never fails, never waits and never allocates, so programs call it where they
// use the value, instead of copying it at start. What has to be told of a change is bound with [Value.Bind]: all parts of a
// program take a value together, or none does.
//
// [OpenTree] does the same for all keys below some prefixes, which are laid over one another: each key is a field of one value. [OpenMap] is
// for a system's own small state, as tenants, shards or switches: each key below a prefix is a document of its own, a bad one harms no
// other, and one that is deleted is gone.
//
// Decoding and validating happen on a goroutine of the Value's own. A slow Validate holds up nobody but its own Value:
// what changes meanwhile is not queued, the newest document is looked at next.
//
// # Writing
//
// Anything that can put a key can configure. A [Store] does it with a history: each version, who wrote it and why, is in the
// transaction that writes the value, so that the one cannot disagree with the other and no compaction takes it away.
// [Store.Publish] and [Store.Update] are compare-and-swap; [Store.Rollback] publishes an older version as the next one. What others have
// written by other means enters the history when a Store next sees it.
//
// # Rolling out
//
// [Store.Rollout] gives a value to a part of the instances first, those with an [Identity], and goes on by what they report:
//
//	            ┌───────── soak: all applied, no complaint ─────────┐
//	            ▼                                                   │
//	start ──► step 1 of n ──► ... ──► step n ──► promoted: the value is the key's, for all
//	            │                       │
//	            └──── refused, failed, died, Check, abort ──► aborted: all are back on the key's document
//
// Where it stands is in etcd, and each transition is a compare-and-swap: whoever drives it may die, and any other goes on; two who
// drive it at once do no harm. An instance decides by itself, from the plan and its own Identity, whether it is in; no other
// ever runs the value.
//
// # Promise
//
//   - A bad document changes what [Value.Err] reports, never what Get returns, and never what a restart begins with: one
//     that does not decode, that Validate or a subscriber refuses, or that makes one of them panic. It is reported once,
//     and the next good one heals it.
//   - Err is nil exactly while Get is what etcd has, as far as can be known. Otherwise it says which it is: cut
//     off, the newest document refused at revision N, the key deleted, or absent and the default in use.
//   - Nobody sees an older document after a newer one, but for a restored backup, which raises [Snapshot.Generation], and
//     for a rollout that is taken back, whose values [Snapshot.Rollout] tells apart.
//   - All keys of a tree are of one revision: nobody sees half of a transaction, under however many prefixes.
//   - A Value never gives up by itself. Cut off, it keeps the last good document; back again, it reads the key
//     once and goes on, whether etcd was compacted or restarted meanwhile. With Options.CacheDir it starts without etcd.
//   - No update is lost: of two who write at once, one is told, or tries again on what the other has written. A write whose
//     answer was lost is found out about, or is an error that retry.Ambiguous reports.
//   - Neither errors nor logs hold what is in a document, unless the program's own Validate or Codec puts it into
//     its errors.
//
// # A key that is not there
//
// A deleted key is not an empty document: Get keeps the last good one, also if there is a default, and Err says
// deleted. Whoever wants the default back puts it.
//
// A key that does not exist when Open is called is the one case for a default: with one, Open returns at once
// and Err says that it is in use; without one, Open waits for the key. A default for an absent key is a
// decision. For an etcd that cannot be reached it would be a guess, so there Open goes by what a single member knows, or by the copy
// on disk, and without either it fails, with or without a default.
//
// # Limits
//
// The value is shared by all who get it: what its pointers, maps and slices lead to must not be written to. A
// change reaches a Value a moment after the put, as everything does that crosses a network; two Values may be at
// different revisions meanwhile. Versions that were followed by a newer one at once may never be seen.
//
// A published value has at most 700 KiB, as it shares a request with its history. An instance that reports has a lease. The
// death of one is noticed when its lease ends, and not before: a step soaks for that long at least. IDs of instances are to be unique:
// of two processes with one ID each seems to have died to who drives a rollout. What a rollout does outside etcd, an instance that was
// taken back cannot undo by itself.
//
// A guide is in docs/configuration.md.
package config
