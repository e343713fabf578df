package follow

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// after returns the moment d from now, having waited for it.
func after(d time.Duration) time.Time {
	<-time.After(d) // of the bubble's time
	return time.Now()
}

// asks has a question be due, and fails the test unless it is sent.
func asks(t *testing.T, p *pulse) time.Time {
	t.Helper()
	now := time.Now()
	if sent, _, silent := p.beat(now, true); !sent || silent {
		t.Fatalf("a question is due: it is sent %t, the stream is given up %t", sent, silent)
	}
	return now
}

func TestAnAnswerProvesTheTimeOfItsQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{trouble: errNotSynced}
		if s := p.status(); s.Err != errNotSynced || !s.ProvenAt.IsZero() || s.Revision != 0 { //nolint:errorlint // the very one
			t.Errorf("before the first read: %+v", s)
		}
		sent := time.Now()
		after(100 * time.Millisecond)
		p.readAt(sent, 5, 0)
		if s := p.status(); s.Err != nil || !s.ProvenAt.Equal(sent) || s.Revision != 5 {
			t.Errorf("after the read: %+v, it was sent at %v", s, sent)
		}

		asked := asks(t, p)
		after(300 * time.Millisecond)
		p.event(6)
		if s := p.status(); !s.ProvenAt.Equal(sent) || s.Revision != 6 {
			t.Errorf("an event proves nothing: %+v", s)
		}
		after(300 * time.Millisecond)
		if late := p.answer(7); late {
			t.Error("an answer within a second is late")
		}
		if s := p.status(); !s.ProvenAt.Equal(asked) || s.Revision != 7 {
			t.Errorf("after the answer: %+v, asked at %v", s, asked)
		}

		after(400 * time.Millisecond)
		if p.answer(8); !p.status().ProvenAt.Equal(asked) {
			t.Error("an answer to somebody else's question proves something")
		}
		again := asks(t, p)
		if p.answer(6); !p.status().ProvenAt.Equal(asked) {
			t.Error("an answer of a member that lags behind proves something")
		}
		after(time.Second)
		asks(t, p)
		if p.answer(9); !p.status().ProvenAt.After(again) {
			t.Error("no later answer proves anything")
		}
	})
}

func TestALateAnswerIsAReasonToDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		p.readAt(time.Now(), 1, 0)
		first := asks(t, p)
		after(time.Second)
		asks(t, p)
		after(200 * time.Millisecond)
		if !p.answer(2) {
			t.Error("an answer to a question that was asked twice is not late")
		}
		if s := p.status(); !s.ProvenAt.Equal(first) {
			t.Errorf("proven at %v, asked first at %v", s.ProvenAt, first)
		}
		// The second asking's answer is on its way still. It must not be taken for that to a third question.
		after(300 * time.Millisecond)
		if sent, _, _ := p.beat(time.Now(), true); sent {
			t.Error("another question is asked before the second answer has had its time")
		}
		if late := p.answer(2); late || !p.status().ProvenAt.Equal(first) {
			t.Errorf("the second answer counts: late %t, proven at %v", late, p.status().ProvenAt)
		}
		after(1200 * time.Millisecond)
		third := asks(t, p)
		after(10 * time.Millisecond)
		if late := p.answer(2); late || !p.status().ProvenAt.Equal(third) {
			t.Errorf("all is well again: late %t, proven at %v", late, p.status().ProvenAt)
		}
	})
}

func TestASilentStreamIsGivenUpAndABusyOneIsNot(t *testing.T) {
	for name, busy := range map[string]bool{"silent": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pulse{}
				p.readAt(time.Now(), 1, 0)
				after(time.Hour) // nobody has asked, so nobody is silent
				if _, _, silent := p.beat(time.Now(), false); silent {
					t.Error("a stream that was asked nothing is given up")
				}
				asked := asks(t, p)
				for beat := 1; time.Since(asked) < time.Minute; beat++ {
					now := after(beatEvery)
					if busy {
						p.event(2)
					}
					if _, _, silent := p.beat(now, beat%askEvery == 0); silent {
						if d := now.Sub(asked); busy || d < silentFor || d > silentFor+beatEvery {
							t.Errorf("given up %v after the question", d)
						}
						return
					}
				}
				if !busy {
					t.Error("a silent stream is not given up")
				}
			})
		})
	}
}

func TestAViewThatFailedIsNotAskedAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, why := &pulse{}, errors.New("cut off")
		p.readAt(time.Now(), 3, 4)
		if !p.on(4) || p.on(5) {
			t.Error("it is not on the stream that it is on")
		}
		asks(t, p)
		if !p.failed(why) {
			t.Error("it was asked, and says that it was not")
		}
		if s := p.status(); s.Err != why || s.Revision != 3 || p.on(4) { //nolint:errorlint // the very one
			t.Errorf("after the failure: %+v", s)
		}
		now := after(time.Minute)
		if sent, _, silent := p.beat(now, true); sent || silent {
			t.Errorf("asked %t and given up %t, and it is not live", sent, silent)
		}
		p.readAt(now, 3, 5)
		if _, _, silent := p.beat(now, true); silent {
			t.Error("the old stream's silence is held against the new one")
		}
	})
}

// Answers come in order and late, or not at all, and etcd drops them while it is busy. Whatever happens to them, no more
// is claimed than is proven; and once all is quiet that is little less.
func TestNoMoreIsProvenThanWasAnswered(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			p := &pulse{}
			p.readAt(time.Now(), 1, 0)
			type answer struct{ sent, arrives time.Time }
			var (
				way    []answer // answers that are under way
				proven time.Time
				delay  = time.Duration(rng.Int64N(int64(1300 * time.Millisecond)))
				quiet  = time.Now().Add(time.Minute)
				end    = quiet.Add(10 * time.Second)
			)
			for beat := 1; time.Now().Before(end); beat++ {
				loaded := time.Now().Before(quiet)
				if !loaded {
					delay = 20 * time.Millisecond
				}
				// What arrives between two beats.
				for range 10 {
					now := after(beatEvery / 10)
					for len(way) > 0 && !way[0].arrives.After(now) {
						proven = way[0].sent
						way = way[1:]
						p.answer(1)
						if at := p.status().ProvenAt; at.After(proven) {
							t.Fatalf("proven %v more than was answered", at.Sub(proven))
						}
					}
					if loaded {
						p.event(1)
					}
				}
				now := time.Now()
				sent, _, silent := p.beat(now, beat%askEvery == 0)
				if silent {
					t.Fatal("given up, and there were events and answers all the time")
				}
				if !sent || loaded && rng.IntN(4) == 0 {
					continue // not asked, or dropped
				}
				arrives := now.Add(delay - time.Duration(rng.Int64N(int64(delay)/10+1)))
				if n := len(way); n > 0 && way[n-1].arrives.After(arrives) {
					arrives = way[n-1].arrives
				}
				way = append(way, answer{now, arrives})
			}
			if age := time.Since(p.status().ProvenAt); age > 2*time.Second {
				t.Fatalf("proven %v ago, though all has been quiet for 10 s", age)
			}
		})
	}
}
