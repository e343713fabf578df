package fence

import (
	"fmt"
	"sync/atomic"
)

// Watermark is the rule by which a resource outside etcd refuses owners of the past: it remembers the highest
// token it has admitted. Its zero value is ready, and it is safe for concurrent use. It is for exclusive
// owners only: readers of one RWMutex, or holders of one semaphore, have different valid tokens at a time.
//
// Between Admit and the write that it admits another owner must not come in: hold the resource's own mutex over both.
//
// It forgets with its process. A resource that outlives it keeps the token where it keeps its data, and
// compares there, in the same transaction as the write.
type Watermark struct {
	highest atomic.Int64
}

// Admit lets t pass if no larger token has passed before, and remembers it; the same token passes any number
// of times. It returns [ErrLost] for a smaller one, and an error of its own for a token below 1.
func (w *Watermark) Admit(t Token) error {
	if t < 1 {
		return errNoToken
	}
	for {
		highest := w.highest.Load()
		if int64(t) < highest {
			return fmt.Errorf("%w: token %d is older than %d, which has written already", ErrLost, t, highest)
		}
		if int64(t) == highest || w.highest.CompareAndSwap(highest, int64(t)) {
			return nil
		}
	}
}
