package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// ErrNobody says that no instance reports.
var ErrNobody = errors.New("config: no instance reports")

// WaitApplied returns when all instances that report run the document of a revision of key, or a later one: Version.Revision of what was
// published, say. It returns what they said, ordered by instance. Who joins meanwhile is waited for too, and who leaves or dies is not
// waited for any more.
//
// If one refuses that document, or reports that it failed with it, WaitApplied returns at once with an error that wraps [ErrRefused] or
// [ErrFailed] and names the instance and its reason. If nobody reports, it returns [ErrNobody]: that nobody objects would be taken for
// success, and is more often an Identity that was forgotten. Whoever is content with nobody checks for it. ctx bounds the wait; the error
// at its end wraps its cause and names who is awaited. With all errors the reports as last seen are returned.
func (s *Store) WaitApplied(ctx context.Context, key string, revision int64) ([]Report, error) {
	l, err := s.layout(key)
	if err != nil {
		return nil, err
	}
	// A view that others opened may be behind; and a read says at once what is wrong with etcd, which a follower waits out.
	_, now, err := s.reports(ctx, l)
	if err != nil {
		return nil, err
	}
	in := newInbox()
	f := follow.Attach(s.client, follow.Prefix(l.reports()).For(follow.Config), teller{in, false})
	defer f.Close()
	if err := f.Reached(ctx, now); err != nil {
		return nil, fmt.Errorf("config %q: %w", key, err)
	}
	seen := map[string]Report{}
	var awaited []string
	for {
		for _, n := range in.take() {
			if n.change == nil {
				continue
			}
			for _, ev := range n.change.Events {
				id := l.reporter(ev.Key)
				if ev.New == nil {
					delete(seen, id)
				} else {
					seen[id] = readReport(id, ev.New)
				}
			}
		}
		reports := ordered(slices.Collect(maps.Values(seen)))
		if awaited, err = runs(living(reports), revision); err != nil {
			return reports, fmt.Errorf("config %q: %w", key, err)
		}
		if len(awaited) == 0 {
			return reports, nil
		}
		select {
		case <-in.signal:
		case <-ctx.Done():
			return reports, fmt.Errorf("config %q: revision %d is not applied by %s: %w", key, revision, some(awaited), context.Cause(ctx))
		}
	}
}

// ErrFailed says that an instance runs a document and is not well.
var ErrFailed = errors.New("config: failed")

// runs says who is still to apply a document, or what an instance has against it.
func runs(reports []Report, revision int64) (awaited []string, err error) {
	if len(reports) == 0 {
		return nil, ErrNobody
	}
	for _, r := range reports {
		switch {
		case r.State == Failed && r.Revision >= revision:
			return nil, fmt.Errorf("%w: instance %q at revision %d: %s", ErrFailed, r.Instance, r.Revision, r.Reason)
		case r.Running >= revision:
		case r.State == Refused && r.Revision >= revision:
			return nil, fmt.Errorf("%w: by instance %q at revision %d: %s", ErrRefused, r.Instance, r.Revision, r.Reason)
		default:
			awaited = append(awaited, r.Instance)
		}
	}
	return awaited, nil
}
