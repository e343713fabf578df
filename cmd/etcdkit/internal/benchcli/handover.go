package benchcli

import (
	"context"
	"sync"
	"time"

	"github.com/etcdkit/etcdkit/lock"
)

// lookAgain is how long the holder waits before it looks again whether somebody is in line.
const lookAgain = 2 * time.Millisecond

// baton is what a holder leaves to the next one: when it let go.
type baton struct {
	mu       sync.Mutex // guards released
	released time.Time  // zero if there was nobody to hand over to
}

// pass notes that the holder lets go now, or without somebody to hand over to.
func (b *baton) pass(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released = at
}

// since is how long ago the holder before has let go; 0 if it is not known, and only once.
func (b *baton) since(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.released
	if b.released = (time.Time{}); at.IsZero() {
		return 0
	}
	return now.Sub(at)
}

// prepareHandOver has workers want one lock. Each lets go only when another is in line, so that what is measured is the way from one
// to the next and not how often they come.
func prepareHandOver(ctx context.Context, b *bench, workers int) ([]operation, func(context.Context), error) {
	sessions, undo, err := b.sessions(ctx, workers)
	if err != nil {
		return nil, undo, err
	}
	name := b.prefix + "hand-over"
	passed := &baton{}
	work := make([]operation, workers)
	for i, s := range sessions {
		mutex := lock.NewMutex(s, name)
		work[i] = func(ctx, until context.Context) (time.Duration, error) {
			held, err := mutex.Lock(until)
			if err != nil {
				return 0, err
			}
			took := passed.since(time.Now())
			behind, err := b.somebody(until, name)
			if err == nil && behind {
				passed.pass(time.Now())
			}
			if failed := held.Unlock(ctx); err == nil {
				err = failed
			}
			return took, err
		}
	}
	return work, undo, nil
}

// somebody waits until somebody is in line behind the holder, and reports whether it is so; not if until ends.
func (b *bench) somebody(until context.Context, name string) (bool, error) {
	for {
		line, err := lock.Inspect(until, b.Client(), name)
		switch {
		case until.Err() != nil:
			return false, nil //nolint:nilerr // the time is up, which is no failure
		case err != nil:
			return false, err
		case len(line) > 1:
			return true, nil
		}
		select {
		case <-until.Done():
		case <-time.After(lookAgain):
		}
	}
}
