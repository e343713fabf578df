package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Pruned is what Prune did.
type Pruned struct {
	Deleted []File

	// Spared are old, but not as their member sent them: somebody should look at them, and know what for.
	Spared []File
}

// Prune deletes the snapshots of a name that are older than keep, by the time in their names. It never deletes the newest, nor what
// is not a whole snapshot, nor a file with a name that Save does not give.
func Prune(ctx context.Context, dir, name string, keep time.Duration) (Pruned, error) {
	var p Pruned
	all, err := List(dir)
	if err != nil {
		return p, err
	}
	all = ofName(all, name)
	for i, f := range all {
		if i == len(all)-1 || time.Since(f.Taken) <= keep {
			break
		}
		if _, err := Sum(ctx, f.Path, nil); errors.Is(err, ErrDamaged) {
			p.Spared = append(p.Spared, f)
			continue
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return p, err
		}
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return p, fmt.Errorf("deleting %s: %w", filepath.Base(f.Path), err)
		}
		p.Deleted = append(p.Deleted, f)
	}
	if len(p.Deleted) == 0 {
		return p, nil
	}
	return p, syncDir(dir)
}

// ofName are those that Save has given a name.
func ofName(all []File, name string) []File {
	var some []File
	for _, f := range all {
		if f.Prefix == name {
			some = append(some, f)
		}
	}
	return some
}
