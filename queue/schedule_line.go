package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// settledDriver is how long driving has gone well for the waits after a failure to start from the shortest again.
const settledDriver = 5 * time.Second

// errSourceEnded is the end of ScheduleOptions.Sessions: it will never give a session again.
var errSourceEnded = errors.New("no session")

// run stands in line and drives when it is its turn, again and again, until ctx ends. One at a time drives so that not everybody
// tries; that each tick has one job does not hang on it.
func (s *schedule[T]) run(ctx context.Context) error {
	waits := retry.Policy{}.Backoff()
	for {
		since := time.Now()
		err := s.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errSourceEnded):
			return err
		case time.Since(since) > settledDriver:
			waits.Reset()
		}
		s.log.Warn("out of line", zap.Error(err))
		_ = waits.Wait(ctx) // turn tells of its end
	}
}

// turn waits for one turn, and drives until it is over.
func (s *schedule[T]) turn(ctx context.Context) error {
	sess, leave, err := s.session(ctx)
	if err != nil {
		return err
	}
	defer leave()
	place, err := turn.Stand(ctx, sess, turn.Prefix(s.q.keys.driving(s.name)), turn.Share{}, whoDrives(), false, nil)
	if err != nil {
		return err
	}
	hold := turn.Own(place, nil)
	work, cancel := hold.Work(ctx)
	defer func() {
		cancel()
		// What etcd does not answer is deleted later, or goes with the session: nobody need be told.
		_ = hold.Release(ctx)
	}()
	s.log.Info("driving the schedule")
	return s.drive(work)
}

// session returns the session to stand in line with, and what ends its use.
func (s *schedule[T]) session(ctx context.Context) (*session.Session, func(), error) {
	if s.opts.Sessions == nil {
		sess, err := session.Open(ctx, s.q.client, s.opts.Session)
		// A lease that cannot be revoked expires by itself.
		return sess, func() { _ = sess.Close(ctx) }, err
	}
	sess, err := s.opts.Sessions.Live(ctx)
	if errors.Is(err, fence.ErrLost) { // a closed Keeper, or a Session that has ended
		err = fmt.Errorf("%w: %w", errSourceEnded, err)
	}
	return sess, func() {}, err
}

// driver is what the key of one who stands in line says about it, for people.
type driver struct {
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

func whoDrives() string {
	host, _ := os.Hostname() // a description without it is better than none
	b, _ := json.Marshal(driver{host, os.Getpid(), time.Now().UTC().Truncate(time.Millisecond)})
	return string(b)
}

func (d driver) String() string { return fmt.Sprintf("%s, process %d", d.Host, d.PID) }
