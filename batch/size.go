package batch

import (
	"math/bits"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// writeCost is what an operation takes in memory beside its key and value.
const writeCost = 256

// putSize is what a put adds to an encoded transaction. It is computed and not measured, because encoding an operation
// to know its size costs more than sending it.
func putSize(key, value string, lease clientv3.LeaseID) int {
	n := fieldSize(len(key))
	if value != "" {
		n += fieldSize(len(value))
	}
	if lease != 0 {
		n += 1 + varintSize(uint64(lease))
	}
	return fieldSize(fieldSize(n)) // a put in an operation in a transaction
}

// deleteSize is what the deletion of one key adds.
func deleteSize(key string) int {
	return fieldSize(fieldSize(fieldSize(len(key))))
}

// fieldSize is the size of a field of n bytes in a message: a tag of one byte, as all of these have, the length, the bytes.
func fieldSize(n int) int { return 1 + varintSize(uint64(n)) + n }

// varintSize is the size of a number: seven bits a byte.
func varintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }
