package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// ErrDamaged says that a file is no snapshot, or not as its member sent it.
var ErrDamaged = errors.New("damaged")

// File is a snapshot on disk.
type File struct {
	Path string

	// Taken, Revision and Prefix are what its name says; they are zero if it is not one that Save has given.
	Taken    time.Time
	Revision int64
	Prefix   string

	Size int64
}

// DefaultName is what the names of snapshots begin with.
const DefaultName = "etcd"

// stamp is how a name tells when a snapshot was taken: in UTC, so that names are in the order of time.
const stamp = "20060102T150405Z"

// named are the names that Save gives.
var named = regexp.MustCompile(`^(.+)-(\d{8}T\d{6}Z)-r(\d+)\.db$`)

// CheckName returns an error if the names of files cannot begin so.
func CheckName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`).MatchString(name) {
		return fmt.Errorf("name %q: it must be 1 to 100 letters, digits, dots, dashes and underscores, and begin with a letter or a digit", name)
	}
	return nil
}

// fileName is the name of a snapshot.
func fileName(name string, taken time.Time, revision int64) string {
	return fmt.Sprintf("%s-%s-r%d.db", name, taken.UTC().Format(stamp), revision)
}

// fileAt is a snapshot by its path.
func fileAt(path string) (File, error) {
	f := File{Path: path}
	info, err := os.Lstat(path)
	if err != nil {
		return f, err
	}
	f.Size = info.Size()
	parts := named.FindStringSubmatch(filepath.Base(path))
	if parts == nil || !info.Mode().IsRegular() {
		return f, nil
	}
	taken, err1 := time.Parse(stamp, parts[2])
	revision, err2 := strconv.ParseInt(parts[3], 10, 64)
	if err1 == nil && err2 == nil {
		f.Prefix, f.Taken, f.Revision = parts[1], taken, revision
	}
	return f, nil
}

// List returns the snapshots in a directory, by their names, oldest first.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []File
	for _, e := range entries {
		f, err := fileAt(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) { // it has just gone
			continue
		}
		if err != nil {
			return nil, err
		}
		if !f.Taken.IsZero() {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b File) int { return a.Taken.Compare(b.Taken) })
	return all, nil
}

// Sum checks a file against the SHA-256 at its end, and returns that. progress may be nil.
func Sum(ctx context.Context, path string, progress func(done, total int64)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w: it is no file", ErrDamaged)
	}
	size := info.Size() - sha256.Size
	// A database is made of pages. What has no sum behind it was copied from a data directory, or cut off.
	if size <= 0 || size%512 != 0 {
		return "", fmt.Errorf("%w: %d bytes are no snapshot, which ends in a SHA-256", ErrDamaged, info.Size())
	}
	sum := sha256.New()
	if err := copyTo(ctx, sum, io.LimitReader(f, size), size, progress); err != nil {
		return "", err
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(f, want); err != nil {
		return "", err
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want) {
		return "", fmt.Errorf("%w: its SHA-256 is %x, and at its end stands %x", ErrDamaged, got[:8], want[:8])
	}
	return hex.EncodeToString(want), nil
}

// copyTo copies until the end, or until ctx ends.
func copyTo(ctx context.Context, to io.Writer, from io.Reader, total int64, progress func(done, total int64)) error {
	done := int64(0)
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := from.Read(buf)
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		done += int64(n)
		if progress != nil && n > 0 {
			progress(done, max(total, done))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// syncDir has the names in a directory be on disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
