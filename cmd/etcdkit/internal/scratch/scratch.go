// Package scratch keeps temporary directories from staying behind.
//
// A command removes its own when it ends, however it ends; but one that was killed by SIGKILL cannot. So each
// directory is locked by the process that made it, and the next process that makes one removes those that nobody
// has locked.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

const (
	lockFile = "in-use"

	// fresh is the age below which a directory without a lock is left alone: its maker is about to lock it.
	fresh = time.Minute
)

// Dir is a temporary directory of this process.
type Dir struct {
	Path string
	lock *fileutil.LockedFile
}

// New makes a directory whose name starts with prefix, and removes those of the same prefix that were left behind.
func New(prefix string) (*Dir, error) { return NewIn(os.TempDir(), prefix) }

// NewIn is New in another directory than that for temporary files.
func NewIn(parent, prefix string) (*Dir, error) {
	sweep(parent, prefix)
	path, err := os.MkdirTemp(parent, prefix+"-")
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	lock, err := fileutil.TryLockFile(filepath.Join(path, lockFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("temporary directory: %w", err), os.RemoveAll(path))
	}
	return &Dir{Path: path, lock: lock}, nil
}

// Remove removes the directory.
func (d *Dir) Remove() error { return errors.Join(os.RemoveAll(d.Path), d.lock.Close()) }

// Keep leaves the directory to whoever wants to look into it, under another name, which it returns. It will not be
// removed by a later process.
func (d *Dir) Keep() (string, error) {
	kept := d.Path + "-kept"
	return kept, errors.Join(os.Rename(d.Path, kept), os.Remove(filepath.Join(kept, lockFile)), d.lock.Close())
}

// sweep removes what nobody has locked. What cannot be removed belongs to somebody else, or will be tried again.
func sweep(parent, prefix string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix+"-") {
			continue
		}
		file := filepath.Join(parent, e.Name(), lockFile)
		info, err := os.Stat(file)
		if err != nil || time.Since(info.ModTime()) < fresh {
			continue
		}
		lock, err := fileutil.TryLockFile(file, os.O_WRONLY, 0o600)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(filepath.Dir(file))
		_ = lock.Close()
	}
}
