package session

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/internal/boottime"
)

func TestAWindowIsCheckedAndFilledIn(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		ttl, margin time.Duration
		want        window
		refused     string // part of the error
	}{
		{0, 0, window{10 * s, s}, ""},
		{2 * s, 0, window{2 * s, s / 5}, ""},
		{2*s + 1, 0, window{3 * s, 3 * s / 10}, ""}, // etcd counts whole seconds
		{5*s - 1, s, window{5 * s, s}, ""},
		{4 * s, 2*s - 1, window{4 * s, 2*s - 1}, ""},
		{10 * s, 1, window{10 * s, 1}, ""},
		{2*s - 1, 0, window{}, "TTL 1.999999999s is under the minimum of 2s"},
		{1, 0, window{}, "minimum"},
		{-s, 0, window{}, "minimum"},
		{math.MinInt64, 0, window{}, "minimum"},
		{math.MaxInt64, 0, window{}, "maximum"},
		{4 * s, 2 * s, window{}, "margin 2s is not under half the TTL of 4s"},
		{4 * s, math.MaxInt64, window{}, "half the TTL"},
		{4 * s, -1, window{}, "margin -1ns is negative"},
		{0, 5 * s, window{}, "half the TTL of 10s"},
	} {
		got, err := newWindow(c.ttl, c.margin)
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("TTL %v, margin %v: %v", c.ttl, c.margin, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("TTL %v, margin %v: %v, want an error with %q", c.ttl, c.margin, err, c.refused)
		case got != c.want:
			t.Errorf("TTL %v, margin %v: %+v, want %+v", c.ttl, c.margin, got, c.want)
		}
	}
}

func TestTrustEndsAMarginBeforeTheSmallerTTLCountedFromSending(t *testing.T) {
	w := window{ttl: 10 * time.Second, margin: time.Second}
	const sent = boottime.Instant(1000 * time.Second)
	for granted, want := range map[int64]time.Duration{
		10:            9 * time.Second,
		11:            9 * time.Second, // more than was asked for
		math.MaxInt64: 9 * time.Second,
		9:             8 * time.Second, // less
		1:             0,
		0:             -time.Second, // nothing at all
	} {
		if got := w.trustedUntil(sent, granted).Sub(sent); got != want {
			t.Errorf("granted %d s: trusted for %v, want %v", granted, got, want)
		}
	}
}

// Whatever was asked for and granted, and however slow the answer: trust ends before the lease can.
func TestTrustNeverOutlivesTheLease(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		ttl := minTTL + time.Duration(random.Int64N(int64(time.Hour)))
		margin := time.Duration(random.Int64N(int64(ttl / 2)))
		w, err := newWindow(ttl, margin)
		if err != nil {
			t.Fatalf("TTL %v, margin %v: %v", ttl, margin, err)
		}
		if w.ttl < ttl || w.ttl%time.Second != 0 || w.ttl-ttl >= time.Second || w.seconds() != int64(w.ttl/time.Second) {
			t.Fatalf("TTL %v became %v, %d s", ttl, w.ttl, w.seconds())
		}
		sent := boottime.Instant(random.Int64N(int64(1000 * time.Hour)))
		processed := sent.Add(time.Duration(random.Int64N(int64(time.Minute))))
		granted := 1 + random.Int64N(2*w.seconds())
		expires := processed.Add(time.Duration(granted) * time.Second)
		until := w.trustedUntil(sent, granted)
		if left := expires.Sub(until); left < w.margin || w.margin <= 0 {
			t.Fatalf("%+v: sent at %v, processed at %v, granted %d s: trusted until %v, %v before the lease expires",
				w, sent, processed, granted, until, left)
		}
		if until.Sub(sent) > ttl+time.Second {
			t.Fatalf("%+v: trusted for %v", w, until.Sub(sent))
		}
	}
}

func TestRenewalsGoMissingTwiceBeforeTrustEnds(t *testing.T) {
	for ttl := minTTL; ttl <= time.Minute; ttl += time.Second {
		w, err := newWindow(ttl, 0)
		if err != nil {
			t.Fatal(err)
		}
		if 2*w.period() >= w.ttl-w.margin {
			t.Errorf("TTL %v: the third renewal, after %v, is too late", ttl, 2*w.period())
		}
	}
}

func TestAnUnansweredRenewalIsSentAgainSoonThenLessOftenAndNeverOnASlowPath(t *testing.T) {
	w := window{ttl: 12 * time.Second, margin: time.Second}
	const ms = time.Millisecond
	for _, c := range []struct {
		unanswered int
		rtt, want  time.Duration
	}{
		{0, 0, 500 * ms},
		{0, 100 * ms, 500 * ms},
		{1, 100 * ms, 1000 * ms},
		{2, 100 * ms, 2000 * ms},
		{3, 100 * ms, 4000 * ms}, // the period
		{4, 100 * ms, 4000 * ms},
		{0, 600 * ms, 1200 * ms},
		{0, 10 * time.Second, 4000 * ms},
	} {
		if got := w.resendAfter(c.unanswered, c.rtt); got != c.want {
			t.Errorf("%d unanswered at %v: after %v, want %v", c.unanswered, c.rtt, got, c.want)
		}
	}
	short := window{ttl: 2 * time.Second}
	if got := short.resendAfter(0, 0); got != short.period()/2 {
		t.Errorf("with a TTL of 2 s: after %v, want half the period", got)
	}
	for unanswered := range 100 {
		for _, rtt := range []time.Duration{0, time.Second, time.Hour} {
			if got := w.resendAfter(unanswered, rtt); got <= 0 || got > w.period() {
				t.Fatalf("%d unanswered at %v: after %v", unanswered, rtt, got)
			}
		}
	}
}
