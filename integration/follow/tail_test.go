package follow_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// tailer is an observer of a tail. It notes what breaks the promise in any scenario.
type tailer struct {
	follower *follow.Follower

	mu     sync.Mutex // guards all below
	parts  []tailPart
	live   bool
	stales int
	wrong  []string
	called chan struct{} // closed and replaced at every call
}

// tailPart is what a tail told from one reset to the next.
type tailPart struct {
	reset  follow.Change
	events []follow.Event
	upTo   int64 // revision of the last change
}

func attachTail(t *testing.T, cli *clientv3.Client, rng follow.Range) *tailer {
	t.Helper()
	o := &tailer{called: make(chan struct{})}
	o.follower = follow.Attach(cli, rng.Tail(), o)
	t.Cleanup(func() {
		o.follower.Close()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, w := range o.wrong {
			t.Error(w)
		}
	})
	return o
}

// enter begins a call, with the lock held.
func (o *tailer) enter() {
	o.mu.Lock()
	close(o.called)
	o.called = make(chan struct{})
}

func (o *tailer) blame(format string, args ...any) {
	o.wrong = append(o.wrong, fmt.Sprintf("in part %d: ", len(o.parts))+fmt.Sprintf(format, args...))
}

func (o *tailer) Changed(c follow.Change) {
	o.enter()
	defer o.mu.Unlock()
	switch {
	case c.Reset != !o.live:
		o.blame("reset is %t, and the tail is live: %t", c.Reset, o.live)
	case c.Initial != (len(o.parts) == 0):
		o.blame("initial is %t", c.Initial)
	case c.Reset && len(c.Events) > 0:
		o.blame("a reset with %d events", len(c.Events))
	case c.Complete != c.Revision:
		o.blame("complete up to %d, at revision %d", c.Complete, c.Revision)
	}
	if c.Reset {
		o.parts = append(o.parts, tailPart{reset: c, upTo: c.Revision})
		return
	}
	p := &o.parts[len(o.parts)-1]
	if len(c.Events) == 0 || c.Generation != p.reset.Generation {
		o.blame("%d events in generation %d, after a reset of %d", len(c.Events), c.Generation, p.reset.Generation)
	}
	for _, ev := range c.Events {
		if ev.Old != nil || ev.Revision <= p.upTo || ev.Revision > c.Revision || ev.New != nil && ev.New.ModRevision != ev.Revision {
			o.blame("an event of %q at %d, in a change from %d to %d: %v", ev.Key, ev.Revision, p.upTo, c.Revision, ev)
		}
	}
	p.events = append(p.events, c.Events...)
	p.upTo = c.Revision
}

func (o *tailer) Stale(error) {
	o.enter()
	defer o.mu.Unlock()
	o.live = false
	o.stales++
}

func (o *tailer) Live() {
	o.enter()
	defer o.mu.Unlock()
	if len(o.parts) == 0 {
		o.blame("live without a change")
	}
	o.live = true
}

// wait returns when ok holds, which is asked after every call and with the lock held.
func (o *tailer) wait(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(within); ; {
		o.mu.Lock()
		done, called := ok(), o.called
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-called:
		case <-deadline:
			o.mu.Lock()
			state := fmt.Sprintf("%d parts, live: %t, stale %d times", len(o.parts), o.live, o.stales)
			o.mu.Unlock()
			t.Fatalf("%s: not so within %v; %s", what, within, state)
		}
	}
}

func (o *tailer) waitLive(t *testing.T) {
	t.Helper()
	o.wait(t, soon, "the tail is live", func() bool { return o.live })
}

// reached waits until the tail has told of a revision, or was reset at a later one.
func (o *tailer) reached(t *testing.T, within time.Duration, revision int64) {
	t.Helper()
	o.wait(t, within, fmt.Sprintf("revision %d", revision), func() bool { return o.live && o.parts[len(o.parts)-1].upTo >= revision })
}

func (o *tailer) resets() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.parts)
}

// last is the newest part. Call it with the lock held, as wait does.
func (o *tailer) last() *tailPart { return &o.parts[len(o.parts)-1] }

// compare holds all that was told against the truth: from each reset on, exactly the events of the revisions after it.
func (o *tailer) compare(t *testing.T, h *truth) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, p := range o.parts {
		var want []*clientv3.Event
		for _, ev := range h.events {
			if ev.Kv.ModRevision > p.reset.Revision && ev.Kv.ModRevision <= p.upTo {
				want = append(want, ev)
			}
		}
		if len(want) != len(p.events) {
			t.Errorf("part %d, revisions %d to %d: %d events, want %d", i, p.reset.Revision, p.upTo, len(p.events), len(want))
			continue
		}
		for n, ev := range p.events {
			w := want[n]
			gone := w.Type == clientv3.EventTypeDelete
			if ev.Key != string(w.Kv.Key) || ev.Revision != w.Kv.ModRevision || gone != (ev.New == nil) || !gone && !same(ev.New, w.Kv) {
				t.Errorf("part %d: event %d is %v, want %v", i, n, ev, w)
				break
			}
		}
	}
}

// A tail is told what happens from its reset on, as it happened; of what was there before it reads nothing.
func TestATailTellsExactlyWhatHappens(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	truth := newChronicle(t, oracle, prefix)
	s := newScribbler(oracle, prefix, seeded(t))
	s.scribble(t, 40)
	cli, calls := counted(etcdtest.Shared(t))
	stop := s.inBackground(t)
	o := attachTail(t, cli, follow.Prefix(prefix))
	o.waitLive(t)
	o.wait(t, soon, "some changes", func() bool { return len(o.last().events) > 50 })
	late := attachTail(t, cli, follow.Prefix(prefix))
	late.waitLive(t)
	late.wait(t, soon, "some changes", func() bool { return len(late.last().events) > 50 })
	stop()
	for _, tail := range []*tailer{o, late} {
		tail.reached(t, soon, s.rev)
		tail.compare(t, truth.under(t, prefix, s.rev))
		if n := tail.resets(); n != 1 {
			t.Errorf("reset %d times, and nothing was done to the tail", n-1)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	late.mu.Lock()
	defer late.mu.Unlock()
	if o.parts[0].reset.Joined || !late.parts[0].reset.Joined {
		t.Errorf("joined: %t, and the later one %t", o.parts[0].reset.Joined, late.parts[0].reset.Joined)
	}
	for call, want := range map[string]int{"Range": 1, "RangeStream": 0, "Txn": 0, etcdtest.WatchCreate: 1} {
		if n := calls.Count(call); n != want {
			t.Errorf("%d calls %s, want %d", n, call, want)
		}
	}
}

// Each interruption is a reset, and between two of them nothing is missing; who reads at each reset has it all.
func TestATailThatIsCutOffSaysSo(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	truth := newChronicle(t, oracle, "a/")
	link := c.Link(0)
	calls := &etcdtest.Calls{}
	o := attachTail(t, link.Dial(clientv3.Config{DialOptions: calls.DialOptions()}), follow.Prefix("a/"))
	o.waitLive(t)
	s := newScribbler(oracle, "a/", seeded(t))
	for range 6 {
		resets := o.resets()
		stop := s.inBackground(t)
		o.wait(t, soon, "some changes", func() bool { return o.live && len(o.last().events) > 10 })
		link.Drop() // the client goes on where it was, without a word: that may be an interruption or none
		calls.Inject(etcdtest.Fault{Call: etcdtest.WatchResponse, Err: rpctypes.ErrGRPCNoLeader})
		o.wait(t, soon, "a reset", func() bool { return o.live && len(o.parts) > resets })
		o.wait(t, soon, "some changes", func() bool { return o.live && len(o.last().events) > 10 })
		stop()
		o.reached(t, soon, s.rev)
	}
	before := o.resets()
	link.Cut()
	o.wait(t, soon, "it is cut off", func() bool { return !o.live })
	s.scribble(t, 30)
	c.Compact(0)
	link.Heal()
	o.wait(t, soon, "a reset after the compaction", func() bool { return o.live && len(o.parts) > before })
	s.scribble(t, 30)
	o.reached(t, soon, s.rev)
	h := truth.under(t, "a/", s.rev)
	o.compare(t, h)
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.last().reset.Generation; g != 0 {
		t.Errorf("generation %d: this is one history", g)
	}

	// What a reader holds that reads at each reset's revision, and takes in what comes.
	got := content{}
	for _, p := range o.parts {
		got = maps.Clone(h.start)
		for _, ev := range h.events {
			if ev.Kv.ModRevision <= p.reset.Revision {
				happen(got, ev)
			}
		}
		for _, ev := range p.events {
			if ev.New == nil {
				delete(got, ev.Key)
			} else {
				got[ev.Key] = ev.New
			}
		}
	}
	if want := read(t, oracle, "a/", 0); !maps.EqualFunc(got, want, same) {
		t.Errorf("a reader's copy is not what etcd holds:%s", difference(got, want))
	}
}

// It is not parallel, as the other test of quiet.
func TestATailCostsAQuestionASecondAndNoOtherCall(t *testing.T) {
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	newScribbler(oracle, prefix, seeded(t)).scribble(t, 20)
	cli, calls := counted(etcdtest.Shared(t))
	for i := range 6 {
		attachTail(t, cli, []follow.Range{follow.Prefix(prefix), follow.Keys(prefix + "a")}[i%2]).waitLive(t)
	}
	attach(t, cli, follow.Prefix(prefix)).synced(t)
	if n := calls.Count("Watch"); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
	calls.Reset()
	calls.Quiet(t, 2500*time.Millisecond, etcdtest.WatchProgress)
}

// Who joins a tail is told at once where it is, whatever state it is in.
func TestATailIsJoinedAtTheRevisionThatItIsAt(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	cli := link.Client()
	o := attachTail(t, cli, follow.Prefix("a/"))
	o.waitLive(t)
	rev := put(t, c.Oracle(0), "a/1", "1")
	o.reached(t, soon, rev)
	link.Cut()
	o.wait(t, soon, "it is cut off", func() bool { return !o.live })
	late := attachTail(t, cli, follow.Prefix("a/"))
	late.wait(t, soon, "it is told, and that the tail is stale", func() bool {
		return len(late.parts) == 1 && late.last().reset.Joined && late.last().upTo >= rev && late.stales > 0
	})
	missed := put(t, c.Oracle(0), "a/1", "2")
	link.Heal()
	late.wait(t, soon, "a reset", func() bool { return late.live && len(late.parts) == 2 && late.last().upTo >= missed })
	rev = put(t, c.Oracle(0), "a/1", "3")
	for _, tail := range []*tailer{o, late} {
		tail.reached(t, soon, rev)
		tail.mu.Lock()
		if events := tail.last().events; len(events) != 1 || string(events[0].New.Value) != "3" {
			t.Errorf("%v", events)
		}
		tail.mu.Unlock()
	}
}

func TestATailOfARestoredBackupIsAnotherGeneration(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "a/1", "1")
	backup := c.Backup()
	link := c.Link(0)
	o := attachTail(t, link.Client(), follow.Prefix("a/"))
	o.waitLive(t)
	o.reached(t, soon, put(t, c.Oracle(0), "a/2", "1"))
	c.Restore(backup)
	o.wait(t, 20*time.Second, "another generation", func() bool { return o.live && o.last().reset.Generation == 1 })
	o.reached(t, soon, put(t, c.Oracle(0), "a/2", "other"))

	// One that was only heard of.
	link.Cut()
	o.follower.Heard(put(t, c.Oracle(0), "a/3", "1"))
	c.Restore(backup)
	link.Heal()
	o.wait(t, 20*time.Second, "another generation", func() bool { return o.live && o.last().reset.Generation == 2 })
	rev := put(t, c.Oracle(0), "a/3", "other")
	o.reached(t, soon, rev)
	o.mu.Lock()
	defer o.mu.Unlock()
	if events := o.last().events; len(events) != 1 || events[0].Revision != rev {
		t.Errorf("after the restore: %v", events)
	}
}

// Of a tail that others have opened, too: what etcd has answered before Open is told, or up to a Reset.
func TestATailIsOpenedAsAnyOther(t *testing.T) {
	t.Parallel()
	oracle, prefix := etcdtest.Client(t), etcdtest.Prefix(t)
	cli, calls := counted(etcdtest.Shared(t))
	for round := range 3 {
		rev := put(t, oracle, prefix+"a", fmt.Sprint(round))
		obs := &awaitedTail{awaited: awaited{make(chan struct{})}}
		f := follow.Attach(cli, follow.Prefix(prefix).Tail(), obs)
		t.Cleanup(f.Close)
		if err := f.Open(t.Context(), obs.live, never(t)); err != nil {
			t.Fatal(err)
		}
		obs.mu.Lock()
		if obs.at < rev && f.Status().Revision < rev {
			t.Errorf("opened at %d, after a write at %d", obs.at, rev)
		}
		obs.mu.Unlock()
	}
	if n := calls.Count("Txn") + calls.Count("RangeStream"); n > 0 {
		t.Errorf("%d calls that read the range", n)
	}
}

// awaitedTail is awaited, and knows the revision it was told.
type awaitedTail struct {
	awaited
	mu sync.Mutex
	at int64
}

func (a *awaitedTail) Changed(c follow.Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = c.Revision
}
