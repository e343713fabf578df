//go:build !linux && !darwin

package snapshot

// free returns how many bytes can still be written below a directory; false if that is not known.
func free(string) (int64, bool) { return 0, false }
