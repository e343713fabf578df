package lock

import (
	"context"
	"fmt"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/session"
)

// maxSize is the largest semaphore. Beyond it a line would be too long to be followed.
const maxSize = 10_000

// Semaphore is a named number of permits that all processes together have. Like [Mutex] it has no state.
//
// It is fair: who comes first goes first, and one who waits for many permits holds back those who come after it, so that it
// is not passed for ever by small ones. All who use a name must say the same size. A [Mutex] of the same name takes all permits.
//
// Holders have tokens that are valid side by side: a guard proves that its holder still holds, but [fence.Watermark] is not
// for them.
type Semaphore struct {
	line line
	size int
}

// NewSemaphore returns the semaphore of a name with size permits, 1 to 10,000, and sessions from source as [NewMutex] takes
// them. It does no I/O; the methods refuse a size out of range.
func NewSemaphore(source session.Source, name string, size int) Semaphore {
	return Semaphore{line: line{source, name, semaphore}, size: size}
}

// Do runs fn while holding weight permits, as [Mutex.Do] does with the lock.
func (s Semaphore) Do(ctx context.Context, weight int, fn func(ctx context.Context, g fence.Guard) error) error {
	share, err := s.share(weight)
	if err != nil {
		return err
	}
	return s.line.do(ctx, share, fn)
}

// Acquire waits for weight permits, 1 to the size, and holds them together. ctx bounds the wait, as with [Mutex.Lock], whose
// errors it returns. [ErrSize] says that others use the name with another size, or as an [RWMutex]: it is returned at once, and to
// the one who came later.
func (s Semaphore) Acquire(ctx context.Context, weight int) (*Held, error) {
	share, err := s.share(weight)
	if err != nil {
		return nil, err
	}
	return s.line.lock(ctx, share)
}

// TryAcquire holds weight permits if it need not wait, neither for permits nor for somebody who waits already, and returns
// [ErrLocked] otherwise. It leaves nothing behind. ctx bounds it. Its other errors are those of Acquire.
func (s Semaphore) TryAcquire(ctx context.Context, weight int) (*Held, error) {
	share, err := s.share(weight)
	if err != nil {
		return nil, err
	}
	return s.line.try(ctx, share)
}

func (s Semaphore) share(weight int) (turn.Share, error) {
	switch {
	case s.size < 1 || s.size > maxSize:
		return turn.Share{}, s.line.failed(fmt.Errorf("size %d refused: it must be 1 to %d", s.size, maxSize))
	case weight < 1 || weight > s.size:
		return turn.Share{}, s.line.failed(fmt.Errorf("weight %d refused: it must be 1 to the size, which is %d", weight, s.size))
	}
	return turn.Share{Size: s.size, Weight: weight}, nil
}
