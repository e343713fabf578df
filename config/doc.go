// Package config keeps a process on the newest good version of a document in etcd.
//
// # Model
//
// A document is the value of one key, as people and tools put it: JSON, YAML, or a bare 8080, info, 30s or
// true. [Open] reads it into a Go type and follows the key; a [Value] always holds the last document that could
// be decoded and that the program's own Validate accepted.
//
//	etcdctl put ──► follow ──► decode ──► Validate ──► Get, Snapshot, Changes
//	                              │           │
//	                              └── refused ┴──────► Err
//
// [Value.Get] is a load from memory. It never fails, never waits and never allocates, so programs call it where they
// use the value, instead of copying it at start.
//
// Decoding and validating happen on a goroutine of the Value's own. A slow Validate holds up nobody but its own Value:
// what changes meanwhile is not queued, the newest document is looked at next.
//
// # Promise
//
//   - A bad document changes what [Value.Err] reports, never what Get returns: one that does not decode, that
//     Validate refuses, or that makes either panic. It is reported once, and the next good one heals it.
//   - Err is nil exactly while Get is what etcd has, as far as can be known. Otherwise it says which it is: cut
//     off, the newest document refused at revision N, the key deleted, or absent and the default in use.
//   - Nobody sees an older document after a newer one, but for a restored backup: that raises
//     [Snapshot.Generation], and what it holds is taken though its revision is lower.
//   - A Value never gives up by itself. Cut off, it keeps the last good document; back again, it reads the key
//     once and goes on, whether etcd was compacted or restarted meanwhile.
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
// decision. For an etcd that cannot be reached it would be a guess, so there Open fails, with or without one.
//
// # All keys below a prefix
//
// [OpenMap] does the same for every key below a prefix, as one [Map]: a system's own small state, such as tenants, shards or
// switches. What a Value promises of its document a Map promises of each, and a bad one harms no other. All of it is of
// one revision. A key that is deleted is gone from it, for there the keys are what is kept.
//
// # Limits
//
// The value is shared by all who get it: what its pointers, maps and slices lead to must not be written to. A
// change reaches a Value a moment after the put, as everything does that crosses a network; two Values may be at
// different revisions meanwhile. Versions that were followed by a newer one at once may never be seen.
package config
