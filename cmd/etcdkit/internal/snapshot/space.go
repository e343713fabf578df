package snapshot

import (
	"errors"
	"fmt"
)

// ErrNoSpace says that a disk has no room for what was to be written, before anything was.
var ErrNoSpace = errors.New("not enough disk space")

const (
	// spare is what is left free on a disk: the file system has uses of its own, and the database grows meanwhile.
	spare = 16 << 20

	// logs is what the write-ahead log of a restored member takes.
	logs = 32 << 20
)

// room returns ErrNoSpace if a directory has no room for so many bytes.
func room(dir string, need int64) error {
	has, known := free(dir)
	if need += spare; known && has < need {
		return fmt.Errorf("%w: %s has %s, and %s are needed", ErrNoSpace, dir, Bytes(has), Bytes(need))
	}
	return nil
}

// Bytes is a number of bytes as people say it.
func Bytes(n int64) string {
	size, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, larger
	}
	if unit == "B" || size >= 100 {
		return fmt.Sprintf("%.0f %s", size, unit)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
