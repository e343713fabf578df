package turn

import (
	"context"
	"errors"
	"time"

	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// again is the wait before a place is taken once more whose key was deleted. It is short: whoever waits does not stand, and there
// may be nobody else. But somebody may be at it who deletes whatever comes.
var again = retry.Policy{Initial: 10 * time.Millisecond, Max: 250 * time.Millisecond}

// settledAfter is how long a place has stood for its loss not to be one of a row.
const settledAfter = 5 * time.Second

// Stand puts a place in line and returns when it owns. ctx bounds it, and the session's end does. On any error nothing stays in
// line. If its key is deleted while it waits, by an owner that hands over past it or by somebody else, it comes again, at the
// end of the line. Transfers says that there may be such owners. Waiting, if it is not nil, is called whenever the place has entered
// and does not own at once.
func Stand(ctx context.Context, sess *session.Session, prefix string, share Share, value string, transfers bool, waiting func(*Place)) (*Place, error) {
	waits := again.Backoff()
	for {
		since := time.Now()
		p, err := Join(ctx, sess, prefix, share, value)
		if err != nil {
			return nil, err
		}
		if waiting != nil && !p.first {
			waiting(p)
		}
		if err = p.Wait(ctx); err == nil && transfers {
			err = p.confirm(ctx)
		}
		if err == nil {
			return p, nil
		}
		// What became of the place is etcd's to tell; the caller wants to know why he does not own.
		_ = p.Leave(ctx)
		if !errors.Is(err, errGone) {
			return nil, err
		}
		if time.Since(since) > settledAfter {
			waits.Reset()
		}
		both, cancel := join(ctx, sess.Context())
		pause(both, waits.Next())
		err = context.Cause(both)
		cancel()
		if err != nil {
			return nil, err
		}
	}
}
