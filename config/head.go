package config

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// maxVersion bounds what a head may claim: JSON readers of other languages know no larger integers.
const maxVersion = 1 << 53

// head is where the history of a key stands, as it is in etcd.
type head struct {
	Version int64 `json:"version"` // the newest
	Oldest  int64 `json:"oldest"`  // of those that are kept
	Current int64 `json:"current"` // the one that is what the key holds, or that it is gone

	// What is known of the key: as etcd counts, how often it was written since it was created (0: it is gone), and the revisions
	// of its last write and its creation. A revision of 0 is the head's own: the two were written in one transaction.
	Writes   int64 `json:"writes,omitempty"`
	Revision int64 `json:"revision,omitempty"`
	Created  int64 `json:"created,omitempty"`
}

// decodeHead reads a head, which anybody may have written.
func decodeHead(key string, value []byte) (head, error) {
	var h head
	if err := json.Unmarshal(value, &h); err != nil ||
		h.Version < 1 || h.Version > maxVersion || h.Oldest < 1 || h.Oldest > h.Version || h.Current < 0 || h.Current > h.Version ||
		h.Writes < 0 || h.Revision < 0 || h.Created < 0 {
		return head{}, fmt.Errorf("config %q: its head in etcd is %w; delete it to have it made anew from the history: %s",
			key, errMalformed, layout{key}.head())
	}
	return h, nil
}

// mark is what is seen of a key. The zero mark is that of a key that does not exist.
type mark struct{ writes, revision, created int64 }

func markOf(kv *mvccpb.KeyValue) mark {
	if kv == nil {
		return mark{}
	}
	return mark{kv.Version, kv.ModRevision, kv.CreateRevision}
}

// known is what the head, written at a revision, knows of its key.
func (h head) known(at int64) mark {
	if h.Writes == 0 {
		return mark{}
	}
	k := mark{h.Writes, h.Revision, h.Created}
	if k.revision == 0 {
		k.revision = at
	}
	if k.created == 0 {
		k.created = k.revision
	}
	return k
}

// know notes what is seen of a key that is not written together with the head.
func (h *head) know(m mark) { h.Writes, h.Revision, h.Created = m.writes, m.revision, m.created }

// missed is how many changes there were, at least, between what was known of a key and what is seen of it, which itself is another
// one.
func missed(known, seen mark) int64 {
	switch {
	case seen.writes == 0:
		return 0 // gone: how often it was written before is not known
	case known.writes == 0:
		return max(0, seen.writes-1)
	case known.created == seen.created:
		return max(0, seen.writes-known.writes-1)
	default: // it was deleted, created, and written again
		return max(0, seen.writes-1) + 1
	}
}
