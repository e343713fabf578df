package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// DifferenceKind says how a key differs from what it is compared to.
type DifferenceKind string

const (
	// Missing is a key that does not exist where it would be written.
	Missing DifferenceKind = "missing"

	// Differs is a key with another value.
	Differs DifferenceKind = "differs"

	// Surplus is a key that exists only where it would be deleted.
	Surplus DifferenceKind = "surplus"
)

// Difference is a key of a Store that is not as it is elsewhere: in another environment, or in a file.
type Difference struct {
	Kind     DifferenceKind
	Name     string // of the key, below the prefix
	Key      string // of this Store
	Value    []byte // nil if it is missing
	Revision int64  // 0 if it is missing

	FromKey      string // elsewhere; for a file, the key that it was exported of
	FromValue    []byte // nil for a surplus key
	FromRevision int64  // 0 for a surplus key, and for a file
}

// Comparison is what differs, by name.
type Comparison struct {
	Differences []Difference
	Equal       int   // how many keys do not differ
	Revision    int64 // of this Store's etcd, as of which that is so

	FromRevision int64 // of the other's; 0 for a file
}

// TransferOptions of Import and Promote.
type TransferOptions struct {
	// Author and Reason are kept with each version.
	Author, Reason string

	// Prune deletes the surplus keys too.
	Prune bool

	// IgnoreRollout is that of PublishOptions.
	IgnoreRollout bool

	// DryRun has Import write nothing, and return what differs.
	DryRun bool

	// AsOf, unless it is 0, has Import refuse to write over what has changed after that revision, by a *ConflictError: it is the
	// Transfer.Revision of the dry run that somebody has looked at.
	AsOf int64
}

// Transfer is what came of an Import or a Promote, also of one that failed.
type Transfer struct {
	Comparison

	// Written are the new versions, without values.
	Written []Version

	// Unknown are the keys of which it is not known whether they were written: the answer was lost.
	Unknown []string
}

// compare finds what differs between keys below a prefix and what they are to be, both in the order of their names.
func compare(below string, is, want []Entry, from func(name string) string) (differences []Difference, equal int) {
	byName := make(map[string]int, len(is))
	for i, e := range is {
		byName[strings.TrimPrefix(e.Key, below)] = i
	}
	wanted := make(map[string]bool, len(want))
	for _, e := range want {
		name := e.Key
		wanted[name] = true
		d := Difference{
			Kind: Missing, Name: name, Key: below + name,
			FromKey: from(name), FromValue: append([]byte{}, e.Value...), FromRevision: e.Revision,
		}
		if i, there := byName[name]; there {
			if bytes.Equal(is[i].Value, e.Value) {
				equal++
				continue
			}
			d.Kind, d.Value, d.Revision = Differs, append([]byte{}, is[i].Value...), is[i].Revision
		}
		differences = append(differences, d)
	}
	for _, e := range is {
		if name := strings.TrimPrefix(e.Key, below); !wanted[name] {
			differences = append(differences, Difference{
				Kind: Surplus, Name: name, Key: e.Key, Value: append([]byte{}, e.Value...), Revision: e.Revision, FromKey: from(name),
			})
		}
	}
	slices.SortFunc(differences, func(a, b Difference) int { return strings.Compare(a.Name, b.Name) })
	return differences, equal
}

// wish is a difference that is to be none.
type wish struct {
	Difference
	layout layout
}

// wishes checks all that is to be written, before anything is.
func (s *Store) wishes(differences []Difference, o TransferOptions) ([]wish, error) {
	if err := checkNotes(o.Author, o.Reason); err != nil {
		return nil, err
	}
	var ws []wish
	seen := make(map[string]bool, len(differences))
	for _, d := range differences {
		l, err := s.layout(d.Key)
		switch {
		case err != nil:
			return nil, err
		case seen[d.Key]:
			return nil, fmt.Errorf("config %q: it is there twice", d.Key)
		case d.Kind == Surplus && !o.Prune:
			continue
		case d.Kind == Surplus && d.Revision == 0, d.Kind != Surplus && d.FromValue == nil:
			return nil, fmt.Errorf("config %q: %w difference", d.Key, errMalformed)
		case d.Kind != Surplus:
			if d.FromKey != d.Key && codec.IsSealed(d.FromValue) {
				return nil, fmt.Errorf("config %q: %w: seal the value anew and publish it", d.Key, ErrSealed)
			}
			if err := s.validate(d.Key, d.FromValue); err != nil {
				return nil, err
			}
		}
		seen[d.Key] = true
		ws = append(ws, wish{d, l})
	}
	return ws, nil
}

// source tells whether what is to be written is still what it was read as elsewhere. The zero source is a file, which does not change.
type source struct {
	client *clientv3.Client
	same   bool // the client is that of the Store, so that one transaction can tell
}

// cmps compare a difference's other side, within the transaction that writes it.
func (f source) cmps(d Difference) []clientv3.Cmp {
	if !f.same {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(d.FromKey), "=", d.FromRevision)}
}

// check reads the other side.
func (f source) check(ctx context.Context, ws []wish) error {
	if f.client == nil {
		return nil
	}
	ops := make([]clientv3.Op, len(ws))
	for i, w := range ws {
		ops[i] = clientv3.OpGet(w.FromKey, clientv3.WithKeysOnly())
	}
	resp, err := call.Do(ctx, f.client, "read", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return f.client.KV.Txn(ctx).Then(ops...).Commit()
	})
	if err != nil {
		return fmt.Errorf("config %q: %w", ws[0].FromKey, err)
	}
	for i, w := range ws {
		is := int64(0)
		if kvs := resp.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			is = kvs[0].ModRevision
		}
		if is != w.FromRevision {
			return &ConflictError{Key: w.FromKey, Expected: orAbsent(w.FromRevision), Revision: is}
		}
	}
	return nil
}

// orAbsent is a revision as PublishOptions.Expect has it.
func orAbsent(revision int64) int64 {
	if revision == 0 {
		return Absent
	}
	return revision
}

// transfer writes what is wished, and notes in t what came of it.
func (s *Store) transfer(ctx context.Context, ws []wish, from source, o TransferOptions, t *Transfer) error {
	// All are looked at before the first is written: a conflict that is there already shall not leave half of it done.
	for chunk := range slices.Chunk(ws, perTxn) {
		if _, err := s.drafts(ctx, chunk, from, o); err != nil && !retriable(err) {
			return err
		}
	}
	for chunk := range slices.Chunk(ws, perTxn) {
		left := chunk
		err := contend(ctx, func(ctx context.Context) (again bool, err error) {
			drafts, err := s.drafts(ctx, left, from, o)
			if err != nil {
				return retriable(err), err
			}
			for len(drafts) > 0 {
				n := fitting(drafts)
				versions, err := s.commit(ctx, drafts[:n])
				if err != nil {
					if retry.Ambiguous(err) {
						for _, w := range left[:n] {
							t.Unknown = append(t.Unknown, w.Key)
						}
					}
					return retriable(err), err
				}
				for _, v := range versions {
					v.Value = nil
					t.Written = append(t.Written, v)
				}
				drafts, left = drafts[n:], left[n:]
			}
			return false, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// retriable reports whether others were faster at something that is not what was expected to stay.
func retriable(err error) bool {
	var final *ConflictError
	return errors.Is(err, ErrConflict) && !errors.As(err, &final)
}

// drafts reads what is to be written, and returns an error if it is not what it was compared as.
func (s *Store) drafts(ctx context.Context, ws []wish, from source, o TransferOptions) ([]draft, error) {
	ls := make([]layout, len(ws))
	for i, w := range ws {
		ls[i] = w.layout
	}
	if err := from.check(ctx, ws); err != nil {
		return nil, err
	}
	gs, err := s.readAll(ctx, ls...)
	if err != nil {
		return nil, err
	}
	drafts := make([]draft, len(ws))
	for i, w := range ws {
		if err := s.expect(ctx, w.layout, gs[i], orAbsent(w.Revision)); err != nil {
			return nil, err
		}
		if !o.IgnoreRollout {
			if err := gs[i].rollout(w.Key); err != nil {
				return nil, err
			}
		}
		v := Version{Kind: Published, Value: w.FromValue, Author: o.Author, Reason: o.Reason}
		if w.Kind == Surplus {
			v.Kind, v.Value = Deleted, nil
		}
		drafts[i] = draft{w.layout, gs[i], entry{version: v, cmps: from.cmps(w.Difference)}}
	}
	return drafts, nil
}
