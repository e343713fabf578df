// Package file keeps small copies on disk: whoever reads one finds the old content or the new one, and never half of
// either, also after the machine has lost its power.
package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Replace makes data the content of the file, which only this user may read. The directory must be there. If it fails the
// file is as it was.
func Replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // else the name may be on disk before the content
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Read returns the content of a file and when it was last modified. A file of more than limit bytes is an error, and not
// read.
func Read(path string, limit int64) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > limit {
		return nil, time.Time{}, fmt.Errorf("%s is of %d bytes, and over %d are not read", path, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, time.Time{}, err
	}
	return data, info.ModTime(), nil
}
