package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/session"
)

// Missed says what becomes of ticks that came more than ScheduleOptions.Grace before anybody could fire them.
type Missed int

const (
	// MissedSkip leaves them out.
	MissedSkip Missed = iota

	// MissedOnce makes a job of the last of them.
	MissedOnce

	// MissedAll makes a job of each, up to ScheduleOptions.MaxLate.
	MissedAll
)

// String is the policy in lower case.
func (m Missed) String() string {
	switch m {
	case MissedSkip:
		return "skip"
	case MissedOnce:
		return "once"
	case MissedAll:
		return "all"
	}
	return fmt.Sprintf("Missed(%d)", int(m))
}

// Defaults of the ScheduleOptions' zero fields, and bounds.
const (
	defaultGrace    = time.Minute
	leastGrace      = time.Second
	defaultMaxLate  = 1000
	longestSchedule = 200 // bytes of a name: the job's ID holds it, and a time
)

// ScheduleOptions of Schedule. The zero value, and a nil *ScheduleOptions, mean the defaults. All who drive a schedule should
// agree on all of them.
type ScheduleOptions struct {
	// Location is the time zone that a cron expression is read in: one that time.LoadLocation returns. Default UTC. time.Local
	// is refused, as it is another one on another machine.
	//
	// When the clocks are put forward and skip a reading, an expression that fixes both minute and hour (neither begins with *)
	// ticks at the change instead, once for all that was skipped; when they are put back and repeat one, it ticks the first
	// time only. Any other expression follows the clock: what it does not show is no tick, what it shows twice is two.
	// @every does not look at clocks.
	Location *time.Location

	// Missed is what becomes of ticks that are older than Grace when they are seen, as after an outage. Default MissedSkip.
	Missed Missed

	// Grace is how late a tick may be fired as if in time. It should cover the time in which another takes over: the TTL of
	// a session, and a second. Default 1 minute; at least a second.
	Grace time.Duration

	// MaxLate is how many ticks are fired at most that have become due together: the newest. Default 1,000.
	MaxLate int

	// Overlap lets a tick have its job although that of a tick before is still in the queue: waiting, in flight, or to be
	// delivered again. Without it such a tick is skipped. A dead letter is not in the queue. MissedAll needs it.
	Overlap bool

	// Session is how the session is opened that a place in line hangs on: its TTL is how long ticks wait when the
	// process that drives has crashed.
	Session *session.Options

	// Sessions is where sessions come from instead, as from a [session.Keeper] that many schedules share. It excludes Session.
	Sessions session.Source

	// Logger is told of ticks that are skipped or left out, of jobs that could not be made, and of who drives. Default the queue's.
	Logger *zap.Logger
}

// Validate returns an error that names the rule that an option breaks, as Schedule would.
func (o *ScheduleOptions) Validate() error {
	switch {
	case o == nil:
		return nil
	case o.Location == time.Local:
		return errors.New("ScheduleOptions.Location must not be time.Local: it is another zone on another machine")
	case o.Missed < MissedSkip || o.Missed > MissedAll:
		return fmt.Errorf("ScheduleOptions.Missed is unknown: %v", o.Missed)
	case o.Grace < 0 || o.Grace > 0 && o.Grace < leastGrace:
		return fmt.Errorf("ScheduleOptions.Grace must be %v at least, but is %v", leastGrace, o.Grace)
	case o.MaxLate < 0:
		return fmt.Errorf("ScheduleOptions.MaxLate must not be negative, but is %d", o.MaxLate)
	case o.Session != nil && o.Sessions != nil:
		return errors.New("ScheduleOptions.Session and ScheduleOptions.Sessions are both set: sessions come from one of them")
	case o.Missed == MissedAll && !o.Overlap:
		return errors.New("ScheduleOptions.Missed is MissedAll without Overlap: of the ticks that are made up for, all but the first would be skipped")
	}
	return o.Session.Validate()
}

// Schedule pushes a job into q at every tick of a cron expression, until ctx ends. Any number of processes call it with the same
// name, which is one schedule of the queue: one of them drives, and another goes on when it is gone. Each tick has one job at
// most, whoever drives and whatever answers are lost: the job is put in one transaction with the note that the tick is over.
//
// An expression has five fields: minute (0–59), hour (0–23), day of the month (1–31), month (1–12 or JAN–DEC), day of the
// week (0–6 or SUN–SAT); each is *, numbers, ranges a-b (22-2 goes past midnight) and lists with commas, all with steps /n. If both days are given, either
// will do. Or it is @yearly, @monthly, @weekly, @daily, @hourly; or @every and a duration of 10 ms or more, as in "@every 90s":
// at the multiples of it since 1970. See [ScheduleOptions] for time zones.
//
// job makes what is pushed for a tick, and says how; opts may be nil, and its ID is Schedule's to give: see [TickOf]. It must have
// no effect of its own, as it may be called more than once for a tick, by several processes. If it fails it is called
// again, with growing waits; after Grace the tick is skipped.
//
// The first start of a schedule fires nothing of the past. Later ones go on from the last tick. A changed expression or zone does
// too, but not from longer ago than Grace.
//
// It returns nil when ctx has ended; an error that says what is wrong with the arguments; or, with ScheduleOptions.Sessions, that of a source which
// has ended, as a keeper that was closed. etcd's absence it waits out. Options.MaxDepth
// does not hold for ticks.
func Schedule[T any](ctx context.Context, q *Queue[T], name, cron string, opts *ScheduleOptions, job func(tick time.Time) (item T, opts *PushOptions, err error)) error {
	s, err := newSchedule(q, name, cron, opts, job)
	if err != nil {
		return err
	}
	if err := s.run(ctx); ctx.Err() == nil {
		return s.failed(err)
	}
	return nil
}

// schedule is one Schedule that runs.
type schedule[T any] struct {
	q     *Queue[T]
	name  string
	cron  string
	ticks ticks
	opts  ScheduleOptions
	job   func(tick time.Time) (T, *PushOptions, error)
	log   *zap.Logger
}

func newSchedule[T any](q *Queue[T], name, cron string, opts *ScheduleOptions, job func(tick time.Time) (T, *PushOptions, error)) (*schedule[T], error) {
	if q.invalid != nil {
		return nil, q.invalid
	}
	s := &schedule[T]{q: q, name: name, cron: cron, job: job}
	if err := checkSchedule(name); err != nil {
		return nil, fmt.Errorf("queue %q: %w", q.name, err)
	}
	if err := opts.Validate(); err != nil {
		return nil, s.failed(err)
	}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Location == nil {
		s.opts.Location = time.UTC
	}
	if s.opts.Grace == 0 {
		s.opts.Grace = defaultGrace
	}
	if s.opts.MaxLate == 0 {
		s.opts.MaxLate = defaultMaxLate
	}
	if job == nil {
		return nil, s.failed(errors.New("the function that makes the jobs is nil"))
	}
	var err error
	if s.ticks, err = parseTicks(cron, s.opts.Location); err != nil {
		return nil, s.failed(fmt.Errorf("cron expression %q refused: %w", cron, err))
	}
	s.log = q.log
	if s.opts.Logger != nil {
		s.log = s.opts.Logger.With(zap.String("queue", q.name))
	}
	s.log = s.log.With(zap.String("schedule", name))
	return s, nil
}

// checkSchedule returns an error that names the rule that a schedule's name breaks.
func checkSchedule(name string) error {
	if err := names.Path("schedule", name); err != nil {
		return err
	}
	if len(name) > longestSchedule {
		return fmt.Errorf("schedule name %q refused: it is longer than %d bytes", name, longestSchedule)
	}
	return nil
}

func (s *schedule[T]) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("queue %q: schedule %q: %w", s.q.name, s.name, err)
}

// tickID is the ID of a tick's job.
func tickID(schedule string, tick time.Time) string {
	return schedule + "@" + tick.UTC().Format(time.RFC3339Nano)
}

// TickOf returns the schedule and the tick that a job was pushed for, as its ID says; ok is false for all other jobs' IDs.
func TickOf(id string) (schedule string, tick time.Time, ok bool) {
	at := strings.LastIndexByte(id, '@')
	if at < 1 {
		return "", time.Time{}, false
	}
	tick, err := time.Parse(time.RFC3339Nano, id[at+1:])
	if err != nil || tickID(id[:at], tick) != id {
		return "", time.Time{}, false
	}
	return id[:at], tick.UTC(), true
}
