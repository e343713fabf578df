package snapshot_test

import "crypto/sha256"

// summed is a database with the sum that a member sends behind it.
func summed(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(append([]byte(nil), db...), sum[:]...)
}
