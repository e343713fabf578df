package session

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

const (
	defaultTTL = 10 * time.Second
	minTTL     = 2 * time.Second

	// firstResend is how long a renewal may stay unanswered before another one is sent beside it.
	firstResend = 500 * time.Millisecond
)

// window is the arithmetic of trust. etcd counts a lease's TTL from when it processed the last renewal. That
// instant is unknown here, but it is not before the renewal was sent; so what is counted from the send time
// ends first, whatever the network did to the reply.
type window struct {
	ttl    time.Duration // what was asked for; a server may grant more, never trusted for longer
	margin time.Duration // subtracted for clock rates and for the time it takes to act on the end
}

// newWindow checks a requested TTL and margin and fills in the defaults.
func newWindow(ttl, margin time.Duration) (window, error) {
	if ttl == 0 {
		ttl = defaultTTL
	}
	switch {
	case ttl < minTTL:
		return window{}, fmt.Errorf("session: TTL %v is under the minimum of %v: etcd cannot expire a lease sooner", ttl, minTTL)
	case ttl > clientv3.MaxLeaseTTL*time.Second:
		return window{}, fmt.Errorf("session: TTL %v is over etcd's maximum", ttl)
	}
	if whole := ttl.Truncate(time.Second); whole < ttl {
		ttl = whole + time.Second
	}
	if margin == 0 {
		margin = ttl / 10
	}
	switch {
	case margin < 0:
		return window{}, fmt.Errorf("session: margin %v is negative", margin)
	case margin >= ttl/2:
		return window{}, fmt.Errorf("session: margin %v is not under half the TTL of %v", margin, ttl)
	}
	return window{ttl: ttl, margin: margin}, nil
}

// seconds is the TTL as etcd counts it.
func (w window) seconds() int64 { return int64(w.ttl / time.Second) }

// trustedUntil is when trust ends that a request sent at the given instant gave, once the server answered it
// with this many seconds of TTL.
func (w window) trustedUntil(sent boottime.Instant, granted int64) boottime.Instant {
	ttl := w.ttl
	if granted < w.seconds() { // compared in seconds: a huge grant would overflow a Duration
		ttl = time.Duration(granted) * time.Second
	}
	return sent.Add(ttl - w.margin)
}

// period is the time from one renewal to the next. A third of the TTL leaves room for two that go
// missing.
func (w window) period() time.Duration { return w.ttl / 3 }

// resendAfter is how long to wait for the answer to a renewal before sending others beside it, of which gRPC
// gives one at least to another endpoint. It doubles with each in a row, and does not fire on a path that is merely
// slow: rtt is the last round trip that was seen.
func (w window) resendAfter(unanswered int, rtt time.Duration) time.Duration {
	wait := max(min(firstResend, w.period()/2), 2*rtt)
	for range unanswered {
		if wait >= w.period() {
			break
		}
		wait *= 2
	}
	return min(wait, w.period())
}
