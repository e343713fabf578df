package batch

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/retry"
)

func TestABadOptionIsRefusedByItsRule(t *testing.T) {
	for _, c := range []struct {
		opts Options
		want string
	}{
		{Options{MaxOps: -1}, "Options.MaxOps must be at least 1"},
		{Options{MaxBytes: -1}, "Options.MaxBytes must be at least 1"},
		{Options{InFlight: -1}, "Options.InFlight must be at least 1"},
		{Options{MaxBuffered: -1}, "Options.MaxBuffered must be at least 1"},
		{Options{MaxBuffered: 1000, MaxBytes: 1000}, "room for one operation"},
		{Options{Retry: retry.Policy{Jitter: 2}}, "Options.Retry: retry: Policy.Jitter"},
		{Options{Retry: retry.Policy{Retryable: retry.Idempotent}}, "Sole decides"},
	} {
		if err := c.opts.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.opts, err, c.want)
		}
		if w, err := New(nil, &c.opts); err == nil || w != nil {
			t.Errorf("%+v: New returned %v, %v", c.opts, w, err)
		}
	}
}

func TestADefaultGivesWayToAnOptionThatIsSet(t *testing.T) {
	for _, c := range []struct {
		what string
		opts *Options
		ok   func(o Options) bool
	}{
		{"none", nil, func(o Options) bool {
			return o.MaxOps == 128 && o.MaxBytes < 3<<19 && o.InFlight == 8 && o.MaxBuffered == 16<<20 && o.Interval == 2*time.Millisecond &&
				o.Retry.MaxAttempts < 0 && o.Retry.AttemptTimeout == 10*time.Second
		}},
		{"large operations", &Options{MaxBytes: 20 << 20}, func(o Options) bool { return o.MaxBuffered >= 20<<20 }},
		{"no interval", &Options{Interval: -1}, func(o Options) bool { return o.Interval == 0 }},
		{"sole", &Options{Sole: true}, func(o Options) bool {
			return o.Retry.AttemptTimeout == 3*time.Second && o.Retry.Retryable(rpctypes.ErrTimeout)
		}},
		{"not sole", &Options{}, func(o Options) bool {
			return o.Retry.Retryable(rpctypes.ErrNoLeader) && !o.Retry.Retryable(rpctypes.ErrTimeout)
		}},
		{"waits", &Options{Retry: retry.Policy{Initial: 4 * time.Second}}, func(o Options) bool { return o.Retry.Max == 4*time.Second }},
		{"timeouts", &Options{Retry: retry.Policy{ReadTimeout: 2 * time.Second}}, func(o Options) bool { return o.Retry.AttemptTimeout == 2*time.Second }},
		{"attempts", &Options{Retry: retry.Policy{MaxAttempts: 2}}, func(o Options) bool { return o.Retry.MaxAttempts == 2 }},
	} {
		o, err := c.opts.resolve()
		if err == nil {
			err = o.Retry.Validate()
		}
		if err != nil || !c.ok(o) {
			t.Errorf("%s: %+v, %v", c.what, o, err)
		}
	}
}
