package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

var errEnvironments = errors.New("config: both Stores must have an environment, and not the same")

// Compare returns how the keys of this Store's environment differ from those of another's: of all that are below prefix, which is
// relative to both environments, and may be empty. Both Stores must have an environment; they may be of two clusters.
func (s *Store) Compare(ctx context.Context, from *Store, prefix string) (Comparison, error) {
	here, there, err := s.sides(from, prefix)
	if err != nil {
		return Comparison{}, err
	}
	is, err := s.list(ctx, here, 0)
	if err != nil {
		return Comparison{}, err
	}
	at := int64(0)
	if s.client == from.client {
		at = is.Revision
	}
	want, err := from.list(ctx, there, at)
	if err != nil {
		return Comparison{}, err
	}
	named := make([]Entry, len(want.Entries))
	for i, e := range want.Entries {
		e.Key = strings.TrimPrefix(e.Key, there)
		named[i] = e
	}
	c := Comparison{Revision: is.Revision, FromRevision: want.Revision}
	c.Differences, c.Equal = compare(here, is.Entries, named, func(name string) string { return there + name })
	return c, nil
}

// sides are the prefixes of a comparison, with the slashes at their ends.
func (s *Store) sides(from *Store, prefix string) (here, there string, err error) {
	a, b := s.opts.Environment, from.opts.Environment
	if a == "" || b == "" || a == b && s.client == from.client {
		return "", "", errEnvironments
	}
	if prefix != "" {
		a, b = a+"/"+prefix, b+"/"+prefix
	}
	if here, err = s.prefix(a); err != nil {
		return "", "", err
	}
	there, err = from.prefix(b)
	return here, there, err
}

// Promote publishes here what Compare found to differ there, and nothing else: if a key has changed since, on either side, it is a
// *[ConflictError], and nothing is written over. Surplus keys are left alone unless o.Prune is set. A value that is sealed for its own key
// is [ErrSealed].
//
// All is looked at before anything is written. Up to thirty keys, as long as they fit into one request, are written in one transaction,
// all or none; more in several. The Transfer says exactly what was written, with and without an error; to go on after one, compare again.
//
// With one client for both Stores the other side is compared in the very transactions that write. With two it is read just before.
func (s *Store) Promote(ctx context.Context, from *Store, differences []Difference, o TransferOptions) (Transfer, error) {
	t := Transfer{Comparison: Comparison{Differences: differences}}
	if _, _, err := s.sides(from, ""); err != nil {
		return t, err
	}
	for _, d := range differences {
		if _, err := from.layout(d.FromKey); err != nil {
			return t, fmt.Errorf("config %q: compared to: %w", d.Key, err)
		}
	}
	ws, err := s.wishes(differences, o)
	if err != nil {
		return t, err
	}
	err = s.transfer(ctx, ws, source{client: from.client, same: s.client == from.client}, o, &t)
	return t, err
}
