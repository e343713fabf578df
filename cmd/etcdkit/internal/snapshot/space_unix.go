//go:build linux || darwin

package snapshot

import "golang.org/x/sys/unix"

// free returns how many bytes can still be written below a directory; false if that is not known.
func free(dir string) (int64, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Bsize <= 0 {
		return 0, false
	}
	block := uint64(s.Bsize)
	return int64(min(s.Bavail, 1<<62/block) * block), true
}
