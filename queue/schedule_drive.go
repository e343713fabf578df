package queue

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/retry"
)

// blink is how long the wall clock is not looked at: it may be set, and the machine suspended, while a timer runs.
const blink = time.Second

// drive fires ticks until ctx ends.
func (s *schedule[T]) drive(ctx context.Context) error {
	waits := retry.Policy{}.Backoff()
	for {
		since := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(since) > settledDriver {
			waits.Reset()
		}
		s.log.Warn("schedule interrupted", zap.Error(err))
		_ = waits.Wait(ctx) // follow tells of its end
	}
}

// follow fires ticks until ctx ends or etcd cannot be asked.
func (s *schedule[T]) follow(ctx context.Context) error {
	k, err := s.enter(ctx)
	if err != nil {
		return err
	}
	var stuck stuck
	how := late{s.opts.Missed, s.opts.Grace, s.opts.MaxLate}
	for ctx.Err() == nil {
		if k.revision == 0 { // deleted
			if k, err = s.enter(ctx); err != nil {
				return err
			}
		}
		d := how.decide(s.ticks, k.Tick, wallClock())
		if !d.left.IsZero() {
			s.log.Warn("missed ticks are left out", zap.Time("from", d.left), zap.Int("fired", len(d.fire)), zap.Stringer("policy", s.opts.Missed))
		}
		switch {
		case len(d.fire) > 0:
			k, err = s.fire(ctx, k, d.fire, &stuck)
		case !d.pass.IsZero():
			to := k.progress
			to.Tick = d.pass
			k, err = s.advance(ctx, k, to, nil)
		default:
			sleepUntil(ctx, d.next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enter reads how far the schedule has come, and writes it if it starts, or if its expression or zone has changed.
func (s *schedule[T]) enter(ctx context.Context) (known, error) {
	k, err := s.read(ctx)
	for err == nil && ctx.Err() == nil {
		now := wallClock()
		to := k.progress
		to.Cron, to.Zone = s.cron, s.opts.Location.String()
		switch {
		case k.revision == 0:
			to.Tick = now
		case to != k.progress:
			s.log.Warn("schedule changed", zap.String("from", k.Cron+" "+k.Zone), zap.String("to", to.Cron+" "+to.Zone))
			if long := now.Add(-s.opts.Grace); to.Tick.Before(long) {
				to.Tick = long
			}
		default:
			if k.Tick.After(now.Add(s.opts.Grace)) {
				s.log.Warn("the schedule's last tick is to come yet: a clock is, or was, wrong. Nothing is fired before", zap.Time("tick", k.Tick))
			}
			return k, nil
		}
		k, err = s.advance(ctx, k, to, nil) // of two who write one fails, and looks again
	}
	return k, err
}

// stuck is a tick whose job cannot be made.
type stuck struct {
	tick  time.Time
	since time.Time
	waits *retry.Backoff
}

// wait lets a wait pass before a tick's job is made once more, and reports false, at once, if that has been tried for long enough.
func (st *stuck) wait(ctx context.Context, tick time.Time, enough time.Duration) bool {
	if !st.tick.Equal(tick) {
		*st = stuck{tick, time.Now(), retry.Policy{}.Backoff()}
	}
	if time.Since(st.since) >= enough {
		return false
	}
	_ = st.waits.Wait(ctx) // the caller looks at ctx
	return true
}

// fire fires ticks, in order, for as long as nothing comes in between.
func (s *schedule[T]) fire(ctx context.Context, k known, fire []time.Time, st *stuck) (known, error) {
	for _, tick := range fire {
		to := k.progress
		to.Tick = tick
		j, failed := s.prepare(k, tick)
		switch {
		case failed == nil:
			to.Job = j.id
		case st.wait(ctx, tick, s.opts.Grace):
			s.log.Warn("the job of a tick could not be made", zap.Time("tick", tick), zap.Error(failed))
			return k, nil
		default:
			s.log.Error("a tick is skipped: its job could not be made", zap.Time("tick", tick), zap.Error(failed))
		}
		before := k
		var err error
		if k, err = s.advance(ctx, k, to, j); err != nil {
			return k, err
		}
		if !k.Tick.Equal(tick) || k.revision == 0 {
			return k, nil // somebody else drives, too, or has deleted it; or the job's place was taken
		}
		if k.Skipped > before.Skipped {
			s.log.Info("a tick is skipped: a job before it is in the queue", zap.Time("tick", tick), zap.String("job", before.Job))
		}
	}
	return k, nil
}

// wallClock is the time of day, which may be set: not the reading of Go's other clock, which stands still in a suspended machine.
func wallClock() time.Time { return time.Now().Round(0).UTC().Truncate(time.Millisecond) }

// sleepUntil returns when the wall clock shows an instant, or ctx has ended; zero is never.
func sleepUntil(ctx context.Context, at time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		wait := blink
		if !at.IsZero() {
			wait = min(wait, at.Sub(time.Now().Round(0)))
		}
		if wait <= 0 {
			return
		}
		timer.Reset(wait)
	}
}
