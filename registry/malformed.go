package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxReported is how many malformed instances an error names; of the others it gives the number.
const maxReported = 10

// malformed remembers the instances of a list that are skipped.
type malformed struct {
	why     map[string]error // by ID
	changed bool             // since err was asked
}

func (m *malformed) add(id string, why error) { m.why[id], m.changed = why, true }

func (m *malformed) remove(id string) {
	if _, there := m.why[id]; there {
		delete(m.why, id)
		m.changed = true
	}
}

func (m *malformed) has(id string) bool {
	_, there := m.why[id]
	return there
}

// err is the error about all of them.
func (m *malformed) err() error {
	if len(m.why) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(m.why))
	var errs []error
	for _, id := range ids[:min(len(ids), maxReported)] {
		errs = append(errs, skipped(id, m.why[id]))
	}
	if more := len(ids) - maxReported; more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more", ErrMalformed, more))
	}
	return errors.Join(errs...)
}

// skipped is the error about one.
func skipped(id string, err error) error {
	if len(id) > maxID {
		id = id[:maxID]
	}
	return fmt.Errorf("%w: %q: %w", ErrMalformed, id, err)
}
