package queue

import (
	"context"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/retry"
)

// hiring claims jobs for as long as ctx lasts.
//
// Two transactions may be under way, if the second is worth it: what they bring is handed on in the order in which they were sent.
func (s *shift) hiring(ctx context.Context) {
	var again *time.Timer
	defer func() {
		if again != nil {
			again.Stop()
		}
	}()
	waits := retry.Policy{Initial: 50 * time.Millisecond, Max: time.Second}.Backoff()
	before := make(chan struct{}) // closed when the claim before has been handed on
	close(before)
	var underWay sync.WaitGroup
	defer underWay.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hire:
		}
		s.mu.Lock()
		now := time.Now()
		var chosen choice
		if idle, spare := s.vacancies(now); s.claiming == 0 || s.claiming == 1 && idle+spare >= worthASecond {
			chosen = s.window.pick(s.worker, idle, spare, now)
		}
		wake := chosen.wake
		if len(s.strays) > 0 {
			chosen.wakeAt(s.sweep(now))
			wake = chosen.wake
		}
		if len(chosen.slots) > 0 {
			s.claiming++
			s.asked += len(chosen.slots)
		}
		slots := targets(chosen)
		r := s.window.together(slots)
		s.mu.Unlock()
		if again != nil {
			again.Stop()
			again = nil
		}
		if !wake.IsZero() {
			again = time.AfterFunc(max(time.Until(wake), time.Millisecond), s.hire.give)
		}
		if len(slots) == 0 {
			continue
		}
		turn, done := before, make(chan struct{})
		before = done
		underWay.Go(func() {
			defer close(done)
			claims, err := s.claim(s.life, slots, r) // to its end also when the worker stops: what it claims is given back
			if err != nil && ctx.Err() == nil {
				s.log.Debug("jobs not claimed", zap.Error(err))
				call.Redial(s.client)
			}
			<-turn
			if err != nil {
				_ = waits.Wait(ctx) // in turn, as a Backoff belongs to one at a time
			} else {
				waits.Reset()
			}
			for _, c := range claims {
				s.ready <- c // it has room for every slot
			}
			s.mu.Lock()
			s.claiming--
			s.asked -= len(slots)
			s.mu.Unlock()
			s.hire.give() // for what is left, and to look in time at what was not to be had
		})
	}
}

// worthASecond is how many jobs are worth a second transaction beside one under way. Fewer wait for it, and are claimed in the order of the
// line.
const worthASecond = 24

// vacancies is how many handlers wait for a job that is not yet asked for, and how many more it is worth to have at hand: no more than are begun
// within about 100 ms, as others cannot have them. Together they are what one transaction claims. What is done but not settled counts once there
// is much of it: it is not to grow without end while etcd is away. The caller holds mu.
func (s *shift) vacancies(now time.Time) (idle, spare int) {
	held := s.inHand + s.asked
	room := min(mostClaims, s.opts.slots()-held, 2*s.opts.slots()-len(s.active)-s.asked)
	idle = max(0, min(s.opts.Concurrency-held, room))
	ahead := min(s.opts.Prefetch, int(s.pace.now(now)))
	spare = max(0, min(s.opts.Concurrency+ahead-held-idle, room-idle))
	return idle, spare
}

// pace is how many jobs are done in paceOver: a count that fades.
type pace struct {
	count float64
	at    time.Time
}

const paceOver = 100 * time.Millisecond

func (p *pace) now(t time.Time) float64 {
	return p.count * math.Exp(-float64(t.Sub(p.at))/float64(paceOver))
}

// done counts one.
func (p *pace) done(t time.Time) {
	p.count, p.at = p.now(t)+1, t
}
