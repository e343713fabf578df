package lock

import (
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/session"
)

// RWMutex is a named lock that one writer holds, or any number of readers. It is fair: who comes first goes first, and a writer
// that waits holds back the readers that come after it, so that it is not passed for ever. Like [Mutex] it has no state.
//
// The writer is a Mutex of the same name, and excludes whatever a Mutex does: etcd's own tools too. Readers have tokens
// that are valid side by side: a reader's guard proves that it still reads, but [fence.Watermark] is not for readers.
type RWMutex struct{ line line }

// NewRWMutex returns the lock of a name, with sessions from source, as [NewMutex] does.
func NewRWMutex(source session.Source, name string) RWMutex {
	return RWMutex{line: line{source, name, writer}}
}

// Writer returns the lock to write under.
func (m RWMutex) Writer() Mutex { return Mutex{line: m.line} }

// Reader returns the lock to read under, together with other readers. Its TryLock returns [ErrLocked] if a writer holds the
// lock or waits for it.
func (m RWMutex) Reader() Mutex {
	read := m.line
	read.kind = reader
	return Mutex{line: read, share: turn.Share{Size: turn.Unlimited, Weight: 1}}
}
