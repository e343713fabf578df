package config

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// keyAttr is the attribute that names a Value: its key, or the prefixes of a tree or a Map.
const keyAttr = attribute.Key("etcdkit.config.key")

// applied is what is in force of a Value or a Map.
type applied struct {
	key      string
	revision int64 // of the document in force, of a Map of the newest one; 0 if there is none
	refused  int   // how many of the newest documents in etcd are
}

// inForce are the Values and Maps that have something to get, and are not closed.
var inForce telemetry.Live[interface{ applied() applied }]

var (
	scope    = telemetry.For("config")
	rejected = scope.Counter("etcdkit.config.rejected", "{document}", "Documents that were refused.")
	_        = scope.Observe("etcdkit.config.applied_revision", "{revision}", "The revision of the document that is in force.", observeApplied)
	_        = scope.Observe("etcdkit.config.rejecting", "{document}", "1 while the newest document in etcd is refused.", observeRejecting)
)

// countRejected reports that a document was refused. Why, and what is in it, is nobody's business here.
func countRejected(key string) {
	ctx := context.Background()
	if rejected.Enabled(ctx) {
		rejected.Add(ctx, 1, telemetry.Attributes(keyAttr.String(key)))
	}
}

// observeApplied reports the revisions that are in force. Of several Values of one key the oldest is: that one is behind.
func observeApplied(_ context.Context, put telemetry.Put) {
	for key, a := range merged() {
		put(float64(a.revision), telemetry.Attributes(keyAttr.String(key)))
	}
}

// observeRejecting reports whether the newest documents are refused.
func observeRejecting(_ context.Context, put telemetry.Put) {
	for key, a := range merged() {
		put(float64(a.refused), telemetry.Attributes(keyAttr.String(key)))
	}
}

// merged is what is in force of each key: the worst of all who have it.
func merged() map[string]applied {
	of := map[string]applied{}
	for _, o := range inForce.All() {
		a := o.applied()
		if other, there := of[a.key]; there {
			a.revision, a.refused = min(a.revision, other.revision), max(a.refused, other.refused)
		}
		of[a.key] = a
	}
	return of
}

// applied is what is in force, for who reads metrics.
func (v *Value[T]) applied() applied {
	s := v.current.Ptr()
	a := applied{key: v.name, revision: s.revision}
	if errors.Is(s.doubt, ErrRefused) {
		a.refused = 1
	}
	return a
}

// applied is what is in force, for who reads metrics. It looks at every entry.
func (m *Map[T]) applied() applied {
	s := m.current.Ptr()
	a := applied{key: m.prefix, refused: s.refused}
	for _, e := range s.entries {
		a.revision = max(a.revision, e.Revision)
	}
	return a
}
