package turn

import (
	"errors"
	"sync"
)

var (
	// errGone is why a place is lost whose key is no longer there.
	errGone = errors.New("key is gone")

	// errRestored is why a place is lost when etcd's history was replaced.
	errRestored = errors.New("etcd's revision went backwards: its data was restored")
)

// seat is where a place of this process learns what the views see of it. It is safe for concurrent use.
type seat struct {
	key   string
	token int64

	called sync.Once
	turn   chan struct{} // closed when the place owns
	ended  sync.Once
	lost   chan struct{} // closed when it is gone; why says how
	why    error         // read after lost
}

func newSeat(key string, token int64) *seat {
	return &seat{key: key, token: token, turn: make(chan struct{}), lost: make(chan struct{})}
}

// call tells the place that it owns.
func (s *seat) call() { s.called.Do(func() { close(s.turn) }) }

// end tells the place that it is lost.
func (s *seat) end(why error) {
	s.ended.Do(func() {
		s.why = why
		close(s.lost)
	})
}
