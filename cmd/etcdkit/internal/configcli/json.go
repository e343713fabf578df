package configcli

import (
	"encoding/json"
	"time"

	"github.com/etcdkit/etcdkit/config"
)

// jsonVersion is an entry of a key's history.
type jsonVersion struct {
	Key      string             `json:"key"`
	Version  int64              `json:"version"`
	Revision int64              `json:"revision"`
	Kind     config.VersionKind `json:"kind"`
	Author   string             `json:"author,omitempty"`
	Reason   string             `json:"reason,omitempty"`
	Time     time.Time          `json:"time,omitzero"`
	Of       int64              `json:"of,omitempty"`      // of "rolled back": the version that was published again
	Rollout  string             `json:"rollout,omitempty"` // of "rolled out" and "taken back"
	Missed   int64              `json:"missed,omitempty"`  // changes before it that are not known
	Omitted  bool               `json:"omitted,omitempty"` // the value was too large to be kept
	Gone     bool               `json:"gone,omitempty"`    // the key did not exist
	Size     int                `json:"size"`              // of the value as it is in etcd, in bytes
}

func versionFacts(v config.Version) jsonVersion {
	return jsonVersion{
		Key: v.Key, Version: v.Number, Revision: v.Revision, Kind: v.Kind, Author: v.Author, Reason: v.Reason, Time: v.Time,
		Of: v.Of, Rollout: v.Rollout, Missed: v.Missed, Omitted: v.Omitted, Gone: v.Gone(), Size: len(v.Value),
	}
}

// jsonChange is what came of a change of a key.
type jsonChange struct {
	jsonVersion

	// Changed is false if the key was already what it was to be.
	Changed bool `json:"changed"`
}

// jsonPath is a place that differs. Old and New are JSON, and missing where there is nothing.
type jsonPath struct {
	Path string          `json:"path"`
	Old  json.RawMessage `json:"old,omitempty"`
	New  json.RawMessage `json:"new,omitempty"`
}

// jsonDiff is what differs between two documents.
type jsonDiff struct {
	Key    string     `json:"key"`
	A      int64      `json:"a,omitempty"` // version
	B      int64      `json:"b,omitempty"`
	Same   bool       `json:"same"`
	Format string     `json:"format,omitempty"` // of both, if it has paths
	Paths  []jsonPath `json:"paths,omitempty"`
	Lines  []string   `json:"lines,omitempty"` // as in a unified diff
}

func diffFacts(key string, a, b int64, d config.Diff) jsonDiff {
	facts := jsonDiff{Key: key, A: a, B: b, Same: d.Same, Format: d.Format}
	for _, p := range d.Paths {
		facts.Paths = append(facts.Paths, jsonPath{p.Path, json.RawMessage(p.Old), json.RawMessage(p.New)})
	}
	for _, l := range d.Lines {
		facts.Lines = append(facts.Lines, diffLine(l))
	}
	return facts
}
