package follow_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// pass is a fault that does nothing to what it hits: only that it has is of interest.
func pass(f etcdtest.Fault) etcdtest.Fault {
	now := make(chan struct{})
	close(now)
	f.Hold = now
	return f
}

func isCreated(m any) bool { return m.(*pb.WatchResponse).Created }

func hasEvents(m any) bool { return len(m.(*pb.WatchResponse).Events) > 0 }

// isProgress reports whether a response only tells how far etcd has got.
func isProgress(m any) bool {
	r := m.(*pb.WatchResponse)
	return !r.Created && !r.Canceled && r.CompactRevision == 0 && len(r.Events) == 0
}

// The watch comes first and the read second. Here each step of that is held up in turn and changes are made meanwhile:
// before etcd knows of the watch, after and before the view knows of it, before the read, and after it.
// Whatever the steps between which they fall, none is lost and none is told twice.
func TestWhatHappensBetweenWatchAndReadIsSeenOnce(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	oracle, base := etcdtest.Client(t), etcdtest.Prefix(t)
	truth := newChronicle(t, oracle, base)
	cli, calls := counted(etcdtest.Shared(t))
	steps := []etcdtest.Fault{
		{Call: etcdtest.WatchCreate},
		{Call: etcdtest.WatchResponse, Match: isCreated},
		{Call: "Range"},
		{Call: "Range", After: true},
	}
	for round := range 80 {
		prefix := fmt.Sprintf("%s%d/", base, round)
		s := newScribbler(oracle, prefix, rng)
		s.keys = 1 + rng.IntN(8)
		s.scribble(t, rng.IntN(5))

		type held struct {
			*etcdtest.Armed
			release chan struct{}
		}
		var holds []held
		plan := ""
		readHeld := false
		for i, f := range steps {
			if rng.IntN(2) == 0 || f.Call == "Range" && readHeld {
				continue
			}
			readHeld = f.Call == "Range"
			release := make(chan struct{})
			f.Hold = release
			holds = append(holds, held{calls.Inject(f), release})
			plan += fmt.Sprint(i)
		}
		j := attach(t, cli, follow.Prefix(prefix))
		for _, h := range holds {
			etcdtest.Done(t, soon, "step of plan "+plan, h.Hit())
			s.scribble(t, rng.IntN(6))
			close(h.release)
		}
		s.scribble(t, 1+rng.IntN(6))
		j.holds(t, soon, oracle, prefix)
		j.compare(t, truth.under(t, prefix, s.rev))
		if n := j.count(isStale); n != 0 {
			t.Errorf("%d interruptions, and nothing was done to the view", n)
		}
		j.close()
		if t.Failed() {
			t.Fatalf("in round %d, plan %s", round, plan)
		}
	}
}

// The same without a plan: views are opened in the midst of as many changes as etcd can take.
func TestViewsOpenedInTheMidstOfChangesMissNothing(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli := etcdtest.Client(t)
	s := newScribbler(oracle, prefix, rng)
	s.scribble(t, 5)
	from := s.rev
	stop := s.inBackground(t)
	var judges []*judge
	for range 40 {
		j := &judge{}
		if len(judges) > 0 && rng.IntN(3) == 0 {
			judges[rng.IntN(len(judges))].close() // now and then the last one, which ends the watch
		}
		j.attach(t, cli, follow.Prefix(prefix))
		judges = append(judges, j)
		<-time.After(time.Duration(rng.IntN(5000)) * time.Microsecond)
	}
	stop()
	h := learn(t, oracle, prefix, from, s.rev)
	for _, j := range judges {
		if !j.closed {
			j.holds(t, soon, oracle, prefix)
			j.compare(t, h)
		}
	}
}
