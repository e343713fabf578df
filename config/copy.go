package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/file"
	"github.com/etcdkit/etcdkit/internal/follow"
)

const (
	// agedEvery is how often a copy that has not changed is marked as current.
	agedEvery = 30 * time.Second

	// maxCopy bounds a copy that is read, and maxName the length of its name.
	maxCopy = 64 << 20
	maxName = 200
)

var errCopyForeign = errors.New("it is of other keys, or was not written by this package")

// diskCopy is the last good document in a file. When the file was last modified is when that was last known to be what etcd has.
type diskCopy struct {
	path string
	keys []string // that the document, or tree, is of
	log  *zap.Logger
}

// copied is what is in the file.
type copied struct {
	Keys     []string // file names may collide where case does not count
	Revision int64
	Entries  []copiedEntry
}

type copiedEntry struct {
	Key      string
	Revision int64
	Value    []byte // as it is in etcd
}

// newDiskCopy makes the directory.
func newDiskCopy(dir string, keys []string, log *zap.Logger) (*diskCopy, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("CacheDir refused: %w", err)
	}
	return &diskCopy{path: filepath.Join(dir, copyName(keys)), keys: keys, log: log}, nil
}

// copyName is the name of the file for some keys.
func copyName(keys []string) string {
	name := ""
	for n, key := range keys {
		if n > 0 {
			name += "+" // which is escaped in a key
		}
		name += url.QueryEscape(key)
	}
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxName-2*len(sum)] + hex.EncodeToString(sum[:])
	}
	return name + ".json"
}

// save replaces the file.
func (d *diskCopy) save(entries []*follow.Entry, revision int64) error {
	c := copied{Keys: d.keys, Revision: revision}
	for _, e := range entries {
		c.Entries = append(c.Entries, copiedEntry{string(e.Key), e.ModRevision, e.Value})
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the copy: %w", err)
	}
	return file.Replace(d.path, text)
}

// load reads the file. What it holds is read as what is in etcd is.
func (d *diskCopy) load() (content, time.Time, error) {
	text, at, err := file.Read(d.path, maxCopy)
	if err != nil {
		return content{}, at, err
	}
	var c copied
	if err := json.Unmarshal(text, &c); err != nil || !slices.Equal(c.Keys, d.keys) || len(c.Entries) == 0 {
		return content{}, at, errCopyForeign
	}
	entries := make([]*follow.Entry, 0, len(c.Entries))
	for _, e := range c.Entries {
		entries = append(entries, &follow.Entry{Key: []byte(e.Key), Value: e.Value, ModRevision: e.Revision})
	}
	found := contentOf(entries)
	found.revision = c.Revision
	return found, at, nil
}

// seed is the state that a Value begins with: the last good document of the process before, or the default, or nothing.
func (v *Value[T]) seed() state[T] {
	s := state[T]{cut: errUnread}
	if v.opts.Default != nil {
		s.value, s.fallback = *v.opts.Default, true
	}
	if v.copy == nil {
		return s
	}
	found, at, err := v.copy.load()
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	var value T
	if err == nil {
		value, err = v.reader.read(found.entries)
	}
	if err != nil {
		v.log.Warn("copy of the last good document cannot be used", zap.Error(err))
		return s
	}
	s.value, s.revision, s.entries, s.disk, s.fallback = value, found.revision, found.entries, at, false
	return s
}

// keep has the copy, which holds what is written, be the newest good document, until life ends.
func (v *Value[T]) keep(life context.Context, written []*follow.Entry) {
	aged := time.NewTicker(agedEvery)
	defer aged.Stop()
	changed, stop := v.current.Changed(life)
	defer stop()
	failing := false
	for {
		select {
		case <-life.Done():
		case <-changed:
		case <-aged.C:
			at := v.following.Status().ProvenAt // before it is looked whether there is something newer
			if s := v.current.Ptr(); v.why(s) == nil && slices.Equal(s.entries, written) {
				_ = os.Chtimes(v.copy.path, time.Time{}, at) // if that fails the copy seems older than it is
			}
		}
		ended := life.Err() != nil // before the value is looked at: one that is taken while an older is written is written, too
		if s := v.current.Ptr(); s.worthKeeping() && !slices.Equal(s.entries, written) {
			err := v.copy.save(s.entries, s.revision)
			switch {
			case err == nil:
				written, failing = s.entries, false
			case !failing:
				failing = true
				v.log.Warn("copy of the last good document cannot be written", zap.Error(err))
			}
		}
		if ended {
			return
		}
	}
}

// worthKeeping reports whether a restart may begin with the value: not with a rollout's, which may yet be taken back.
func (s *state[T]) worthKeeping() bool {
	return s.rollout == "" && s.disk.IsZero() && !s.fallback && s.revision > 0
}
