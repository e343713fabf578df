package follow

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// asked is a loom of two watches whose questions are counted, and answered by hand.
type asked struct {
	*loom
	pulse   *pulse
	prompts []bool // that were sent: asked again
	late    bool   // an answer was, and is reached
}

func newAsked() *asked {
	a := &asked{pulse: &pulse{}}
	a.pulse.readAt(time.Now(), 1, 0)
	a.loom = newLoom(2, 1, func(again bool) bool {
		sent := a.pulse.prompt(time.Now(), again)
		if sent {
			a.prompts = append(a.prompts, again)
		}
		return sent
	})
	return a
}

// event has a watch bring an event of a revision, as view.weave does.
func (a *asked) event(watch int, rev int64) {
	a.look()
	a.bring(watch, []*mvccpb.Event{{Kv: &Entry{Key: []byte("k"), ModRevision: rev}}})
	a.news = a.news || a.holds()
	a.step()
}

// answer has an answer come on a watch.
func (a *asked) answer(watch int, rev int64) {
	a.look()
	if watch == 0 {
		at, late := a.pulse.answered()
		a.answered(at, late, rev)
	}
	if a.believe(watch) {
		a.pass(watch, rev)
	}
	a.step()
}

func (a *asked) step() {
	before := a.complete
	a.release()
	a.late = a.reached(a.pulse.prove) || a.late
	a.press(a.complete > before)
}

func (a *asked) wants(t *testing.T, when string, prompts ...bool) {
	t.Helper()
	if !slices.Equal(a.prompts, prompts) {
		t.Errorf("%s: asked %v, want %v", when, a.prompts, prompts)
	}
}

func TestEtcdIsAskedOnceForABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		a.wants(t, "nothing has come")
		a.event(0, 2)
		a.wants(t, "the first event", false)
		a.event(0, 3)
		a.event(1, 4)
		a.event(0, 5)
		a.wants(t, "more of the burst", false)

		// The answer is to a question from before some of it: another question follows, at once.
		after(5 * time.Millisecond)
		a.answer(0, 4)
		a.wants(t, "an answer that does not cover all", false, false)
		a.answer(1, 4)
		if a.complete != 4 || !a.holds() {
			t.Errorf("complete at %d", a.complete)
		}
		a.answer(0, 5)
		a.answer(1, 5)
		if a.complete != 5 || a.holds() {
			t.Errorf("complete at %d", a.complete)
		}
		a.wants(t, "all is covered", false, false)
		select {
		case <-a.due():
			t.Error("etcd is to be asked again, and nothing is held")
		case <-time.After(time.Minute):
		}
		// What both bring is whole by itself.
		a.event(0, 7)
		a.wants(t, "one half", false, false, false)
		a.event(1, 7)
		if a.complete != 7 || a.holds() {
			t.Errorf("complete at %d", a.complete)
		}
	})
}

// etcd drops questions, without a word, while a watch is catching up.
func TestAQuestionWithoutAnswerIsAskedAgainAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		a.event(0, 2)
		var waits []time.Duration
		for last := time.Now(); ; last = time.Now() {
			<-a.due()
			waits = append(waits, time.Since(last))
			if a.repeat() {
				break
			}
			if n := len(a.prompts); !a.prompts[n-1] || n != len(waits)+1 {
				t.Fatalf("asked %v after %v", a.prompts, waits)
			}
		}
		const ms = time.Millisecond
		want := []time.Duration{40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, time.Second, time.Second, time.Second, time.Second}
		if !slices.Equal(waits, want) {
			t.Errorf("given up after %v, want %v", waits, want)
		}

		// Whatever is released begins anew.
		a.answer(0, 2)
		a.answer(1, 2)
		if a.complete != 2 {
			t.Errorf("complete at %d by the answer", a.complete)
		}
		a.event(1, 3)
		before := time.Now()
		<-a.due()
		if a.repeat() {
			t.Error("given up at the first question in vain")
		}
		if took := time.Since(before); took != time.Second { // twice what the last answer took, and not less often than the beat
			t.Errorf("asked again after %v", took)
		}
	})
}

// opens has the stream be opened by hand.
func (a *asked) opens() (again func()) {
	n := int64(3)
	a.follow(n, func() int64 { return n }, a.pulse.expected)
	return func() { n += 2 }
}

// What is answered after the stream was opened again may have been asked when a watch was not open yet, and name a revision that it has yet to
// reach: until there is an answer to what was asked after one had come to what was asked after that.
func TestAnswersAreNotBelievedUntilAllWatchesAreOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		again := a.opens()
		a.event(0, 2)
		again()
		a.answer(0, 9) // to what was asked before
		a.answer(1, 9)
		a.wants(t, "not believed", false, false)
		a.answer(0, 9) // to what may have been sent in between, too
		a.wants(t, "not believed either", false, false, false)
		a.answer(1, 9) // after which something was asked already
		a.answer(0, 10)
		if a.complete != 1 || !a.holds() {
			t.Errorf("complete at %d", a.complete)
		}
		a.event(1, 2) // which those answers had overtaken
		if a.complete != 2 || a.holds() {
			t.Errorf("complete at %d, both have brought 2", a.complete)
		}
		a.answer(1, 10) // to what was asked before the watch was known to be open
		a.event(0, 11)
		a.answer(0, 12)
		a.answer(1, 12)
		if a.complete != 12 {
			t.Errorf("complete at %d, all was open when it was asked", a.complete)
		}

		// And once more, with nothing held and no question open.
		again()
		a.event(1, 13)
		a.answer(0, 20)
		a.answer(1, 20)
		if a.complete != 12 {
			t.Errorf("complete at %d by the first answer", a.complete)
		}
		for range 4 { // more was asked than was answered
			a.answer(0, 22)
			a.answer(1, 22)
		}
		if a.complete != 22 {
			t.Errorf("complete at %d, all was open when it was asked", a.complete)
		}
	})
}

// A question that was not answered is asked again. Which of the two the answer is to does not matter.
func TestARepeatedQuestionIsNoReasonToDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		a.opens()
		a.event(0, 2)
		<-a.due()
		a.repeat()
		a.wants(t, "repeated", false, true)
		a.answer(1, 2)
		a.answer(0, 2)
		if a.complete != 2 {
			t.Errorf("complete at %d", a.complete)
		}
	})
}

// On a long way an answer takes longer than etcd is given to answer at first.
func TestAnAnswerIsGivenTheTimeThatTheLastOneTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		for rev := int64(2); rev < 6; rev++ {
			a.event(0, rev)
			after(30 * time.Millisecond)
			a.answer(0, rev)
			after(2 * time.Millisecond)
			a.answer(1, rev)
		}
		a.event(0, 6)
		asked := time.Now()
		<-a.due()
		if took := time.Since(asked); took != 60*time.Millisecond {
			t.Errorf("asked again after %v, and answers take 30 ms", took)
		}
	})
}

// A question is lost with a connection, and the next to be answered is a prompt: what was answered late was the first, which is a reason
// to doubt.
func TestAPromptDoesNotHideThatAnAnswerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		asks(t, a.pulse)
		after(1300 * time.Millisecond)
		a.event(1, 2)
		a.wants(t, "a question is open")
		<-a.due()
		a.repeat()
		a.wants(t, "and stays open", true)
		a.answer(0, 2)
		a.answer(1, 2)
		if a.complete != 2 || !a.late {
			t.Errorf("complete at %d, late: %t", a.complete, a.late)
		}
	})
}

// An answer on the one watch proves nothing before the other has got as far.
func TestAViewIsProvenWhenItsLastWatchIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsked()
		start := time.Now()
		after(time.Second)
		question := asks(t, a.pulse)
		after(20 * time.Millisecond)
		a.answer(0, 9)
		if at := a.pulse.status().ProvenAt; !at.Equal(start) {
			t.Errorf("proven %v after the read, by one of two watches", at.Sub(start))
		}
		after(20 * time.Millisecond)
		a.answer(1, 9)
		if s := a.pulse.status(); !s.ProvenAt.Equal(question) || s.Revision != 9 {
			t.Errorf("%+v, asked at %v", s, question)
		}
		after(time.Second)
		asks(t, a.pulse)
		a.answer(0, 8)
		a.answer(1, 8)
		if at := a.pulse.status().ProvenAt; !at.Equal(question) {
			t.Error("an answer of a member that lags behind proves something")
		}
	})
}

// Prompts go out whenever something is held, answers come in order and late, or not at all. Whatever happens to them, no more is
// claimed than is proven; and once all is quiet that is little less.
func TestPromptsDoNotProveMoreThanWasAnswered(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			p := &pulse{}
			p.readAt(time.Now(), 1, 0)
			type answer struct{ sent, arrives time.Time }
			var (
				way    []answer
				proven time.Time
				delay  = time.Duration(rng.Int64N(int64(200 * time.Millisecond)))
				drops  = 2 + rng.IntN(20)
				quiet  = time.Now().Add(20 * time.Second)
				retry  = quiet
			)
			for tick := 1; time.Now().Before(quiet.Add(10 * time.Second)); tick++ {
				now := after(5 * time.Millisecond)
				loaded := now.Before(quiet)
				if loaded {
					p.event(1)
				}
				for len(way) > 0 && !way[0].arrives.After(now) {
					proven, way = way[0].sent, way[1:]
					if asked, _ := p.answered(); !asked.IsZero() {
						p.prove(asked, 1)
					}
					if at := p.status().ProvenAt; at.After(proven) {
						t.Fatalf("proven %v more than was answered", at.Sub(proven))
					}
				}
				sent := false
				switch {
				case tick%200 == 0:
					var silent bool
					if sent, _, silent = p.beat(now, true); silent {
						t.Fatal("given up, and there were answers all the time")
					}
				case loaded && rng.IntN(10) == 0:
					if sent = p.prompt(now, now.After(retry)); sent {
						retry = now.Add(max(promptAfter, 2*delay))
					}
				}
				if !sent || loaded && rng.IntN(drops) == 0 {
					continue
				}
				arrives := now.Add(delay - time.Duration(rng.Int64N(int64(delay)/10+1)))
				if n := len(way); n > 0 && way[n-1].arrives.After(arrives) {
					arrives = way[n-1].arrives
				}
				way = append(way, answer{now, arrives})
			}
			if age := time.Since(p.status().ProvenAt); age > 1500*time.Millisecond {
				t.Fatalf("proven %v ago, though all has been quiet for 10 s", age)
			}
		})
	}
}
