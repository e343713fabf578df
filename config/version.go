package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// VersionKind says how a version came about.
type VersionKind string

const (
	// Published is a version that was published, by Publish, Update, Import or Promote.
	Published VersionKind = "published"

	// RolledBack is an older version that was published again; or, if that was a deletion, deleted again.
	RolledBack VersionKind = "rolled back"

	// RolledOut is the value of a rollout that was promoted.
	RolledOut VersionKind = "rolled out"

	// TakenBack is the value of a rollout that was aborted. It never was the key's.
	TakenBack VersionKind = "taken back"

	// Outside is what the key held, or that it was gone, after somebody had written it by other means, as etcdctl put.
	Outside VersionKind = "outside"

	// Deleted says that the key was deleted through a Store.
	Deleted VersionKind = "deleted"

	// Malformed is an entry of the history that cannot be read: others wrote there. Of its fields only Key, Number and Revision
	// are filled.
	Malformed VersionKind = "malformed"
)

// Version is an entry of a key's history.
type Version struct {
	Key      string      //
	Number   int64       // from 1; of a key, across its deletion too
	Revision int64       // of etcd, at which the value became the key's, or the key went, or (of TakenBack) the entry was written
	Kind     VersionKind //
	Author   string      // empty for Outside
	Reason   string      //
	Time     time.Time   // by the writer's clock; of Outside, when it was noticed
	Of       int64       // of RolledBack: the version that was published again
	Rollout  string      // of RolledOut and TakenBack: the rollout's ID

	// Value is nil if the key was gone, or if it was Omitted. An empty value is not nil.
	Value []byte

	// Missed is how many changes between this version and the one before are not known, at least: they were written by other means,
	// one over the other.
	Missed int64

	// Omitted says that the value, written by other means, was too large to be kept.
	Omitted bool
}

// Gone reports whether the key did not exist as of this version.
func (v Version) Gone() bool { return v.Value == nil && !v.Omitted && v.Kind != Malformed }

// notes is the line that stands before the document in an entry of the history.
type notes struct {
	Version int64       `json:"version"`
	ID      string      `json:"id"` // of the write, random
	Kind    VersionKind `json:"kind"`
	Author  string      `json:"author,omitempty"`
	Reason  string      `json:"reason,omitempty"`
	Time    time.Time   `json:"time"`
	Of      int64       `json:"of,omitempty"`
	Rollout string      `json:"rollout,omitempty"`

	// Revision is that at which the value became the key's, if it was not the entry's own.
	Revision int64 `json:"revision,omitempty"`

	Missed  int64 `json:"missed,omitempty"`
	Omitted bool  `json:"omitted,omitempty"`
	Gone    bool  `json:"gone,omitempty"`
}

var errMalformed = errors.New("malformed")

// encodeVersion is an entry of the history: the notes, a newline, and the document as it is.
func encodeVersion(v Version, id string) (string, error) {
	n := notes{
		Version: v.Number, ID: id, Kind: v.Kind, Author: v.Author, Reason: v.Reason, Time: v.Time, Of: v.Of, Rollout: v.Rollout,
		Missed: v.Missed, Omitted: v.Omitted, Gone: v.Gone(),
	}
	if v.Kind == Outside {
		n.Revision = v.Revision
	}
	line, err := marshal(n)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.Grow(len(line) + len(v.Value))
	b.Write(line)
	b.Write(v.Value)
	return b.String(), nil
}

// decodeVersion reads an entry of a key's history, which anybody may have written.
func decodeVersion(key string, number int64, kv *mvccpb.KeyValue) (Version, string) {
	v := Version{Key: key, Number: number, Revision: kv.ModRevision, Kind: Malformed}
	line, document, ok := bytes.Cut(kv.Value, []byte("\n"))
	var n notes
	if !ok || json.Unmarshal(line, &n) != nil || n.Version != number || n.Kind == "" || n.Kind == Malformed {
		return v, ""
	}
	v.Kind, v.Author, v.Reason, v.Time, v.Of, v.Rollout = n.Kind, n.Author, n.Reason, n.Time, n.Of, n.Rollout
	v.Missed, v.Omitted = max(0, n.Missed), n.Omitted
	if n.Revision > 0 {
		v.Revision = n.Revision
	}
	if !n.Gone && !n.Omitted {
		v.Value = append([]byte{}, document...)
	}
	return v, n.ID
}

// marshal is JSON for people to read, with a newline at its end.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b.Bytes(), nil
}

// checkNotes checks what people say of a version, before anything is sent.
func checkNotes(author, reason string) error {
	switch {
	case len(author) > MaxAuthor:
		return fmt.Errorf("config: author refused: it has %d bytes, at most %d", len(author), MaxAuthor)
	case len(reason) > MaxReason:
		return fmt.Errorf("config: reason refused: it has %d bytes, at most %d", len(reason), MaxReason)
	case !utf8.ValidString(author) || strings.ContainsFunc(author, unicode.IsControl):
		return errors.New("config: author refused: it holds a control character or is not UTF-8")
	case !utf8.ValidString(reason):
		return errors.New("config: reason refused: it is not UTF-8")
	}
	return nil
}
