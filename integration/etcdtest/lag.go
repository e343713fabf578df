package etcdtest

import (
	"sync"
	"sync/atomic"
	"time"
)

// lag is how long this process, in sum, was not run though it wanted to: because the machine was busy, and not for anything that
// is tested. Main measures it.
var lag atomic.Int64 // nanoseconds

const (
	lagTick  = 2 * time.Millisecond // how closely it is looked at
	lagLeast = 3 * time.Millisecond // a timer that is less late is in time
)

// measureLag does so until stop is called.
func measureLag() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTimer(lagTick)
		for last := time.Now(); ; {
			select {
			case <-tick.C:
			case <-end:
				tick.Stop()
				return
			}
			now := time.Now()
			if late := now.Sub(last) - lagTick; late > lagLeast {
				lag.Add(int64(late))
			}
			last = now
			tick.Reset(lagTick)
		}
	}()
	return func() { close(end); <-ended }
}

// timeUp returns a channel that is closed when so much time has passed in which this process was run. A bound of a few hundred
// milliseconds is one on what the code does, and a test of it is one only if the machine's part is taken off.
func timeUp(within time.Duration) (up <-chan struct{}, stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	began, before := time.Now(), lag.Load()
	go func() {
		for {
			left := within + time.Duration(lag.Load()-before) - time.Since(began)
			if left <= 0 {
				close(done)
				return
			}
			timer := time.NewTimer(left)
			select {
			case <-timer.C:
			case <-stopped:
				timer.Stop()
				return
			}
		}
	}()
	return done, sync.OnceFunc(func() { close(stopped) })
}
