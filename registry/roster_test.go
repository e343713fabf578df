package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// put and del are events as a follower hands them on.
func put(id, value string) follow.Event {
	return follow.Event{Key: "services/mail/" + id, New: &follow.Entry{Value: []byte(value)}}
}

func del(id string) follow.Event { return follow.Event{Key: "services/mail/" + id} }

const good = `{"Addr":"h:1"}`

// newTestRoster returns a roster whose etcd nobody asks: nobody minds it.
func newTestRoster() *roster {
	return newRoster(context.Background(), serviceKey{name: "mail", prefix: "services/mail/", hold: -1, logger: zap.NewNop()}, nil)
}

// synced returns a roster that is live at revision 10.
func synced(events ...follow.Event) *roster {
	r := newTestRoster()
	r.Changed(follow.Change{Revision: 10, Initial: true, Events: events})
	r.Live()
	return r
}

func wantRoster(t *testing.T, r *roster, source Source, revision int64, want string) {
	t.Helper()
	s := r.cell.Get()
	if got := strings.Join(ids(s.Instances), " "); got != want || s.Source != source || s.Revision != revision {
		t.Errorf("got %q, %s, revision %d; want %q, %s, revision %d", got, s.Source, s.Revision, want, source, revision)
	}
}

func TestARosterIsOrderedAndTakesTheLastOfSeveralEvents(t *testing.T) {
	t.Parallel()
	r := synced(put("b", good), put("a", good))
	wantRoster(t, r, Live, 10, "a b")
	r.Changed(follow.Change{Revision: 12, Events: []follow.Event{
		put("c", `{"Addr":"h:1"}`), del("a"), put("c", `{"Addr":"h:2"}`), put("d", good), del("d"),
	}})
	wantRoster(t, r, Live, 12, "b c")
	if got := r.cell.Get().Instances[1].Addr; got != "h:2" {
		t.Errorf("got the address %s of an earlier event", got)
	}
}

func TestARosterDoesNotListWhatIsFurtherBelow(t *testing.T) {
	t.Parallel()
	r := synced(put("a", good), put("cart/b", "garbage"))
	wantRoster(t, r, Live, 10, "a")
	r.Changed(follow.Change{Revision: 11, Events: []follow.Event{put("cart/c", good)}})
	wantRoster(t, r, Live, 10, "a") // nothing to publish
	if err := r.cell.Get().skipped; err != nil {
		t.Error(err)
	}
}

func TestAStaleRosterKeepsItsInstancesAndPublishesWhatItMissedInOneStep(t *testing.T) {
	t.Parallel()
	r := synced(put("a", good), put("b", good))
	r.Stale(errors.New("cut off"))
	wantRoster(t, r, Stale, 10, "a b")
	published := r.cell.Ptr()
	r.Stale(errors.New("still cut off"))
	r.Changed(follow.Change{Revision: 20, Events: []follow.Event{del("a"), put("c", good)}})
	if r.cell.Ptr() != published {
		t.Error("published again before it is live")
	}
	r.Live()
	wantRoster(t, r, Live, 20, "b c")
}

func TestARosterThatJoinsAStaleFollowerIsStaleFromTheStart(t *testing.T) {
	t.Parallel()
	r := newTestRoster()
	before := r.cell.Ptr()
	r.Stale(errors.New("not yet"))
	if r.cell.Ptr() != before {
		t.Error("published before anything is known")
	}
	r.Changed(follow.Change{Revision: 10, Initial: true, Events: []follow.Event{put("a", good)}})
	r.Stale(errors.New("cut off"))
	wantRoster(t, r, Stale, 10, "a")
	select {
	case <-r.whenLive():
		t.Error("synced with what was known by others before")
	default:
	}
	r.Live()
	wantRoster(t, r, Live, 10, "a")
	<-r.whenLive()
}

func TestMalformedInstancesAreSkippedAndNamed(t *testing.T) {
	t.Parallel()
	r := synced(put("a", good), put("bad", "garbage"))
	wantRoster(t, r, Live, 10, "a")
	err := r.cell.Get().skipped
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("got %v", err)
	}
	r.Changed(follow.Change{Revision: 11, Events: []follow.Event{put("a", "garbage"), put("bad", good)}})
	wantRoster(t, r, Live, 11, "bad")
	if err := r.cell.Get().skipped; err == nil || !strings.Contains(err.Error(), `"a"`) || strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("got %v", err)
	}
	r.Changed(follow.Change{Revision: 12, Events: []follow.Event{del("a")}})
	wantRoster(t, r, Live, 12, "bad")
	if err := r.cell.Get().skipped; err != nil {
		t.Errorf("got %v although the malformed instance is gone", err)
	}
}

func TestTheReportOfManyMalformedInstancesIsShort(t *testing.T) {
	t.Parallel()
	var events []follow.Event
	for i := range 1000 {
		events = append(events, put(fmt.Sprintf("%0*d", maxID*2, i), "garbage"))
	}
	err := synced(events...).cell.Get().skipped
	if err == nil || !strings.Contains(err.Error(), "990 more") || len(err.Error()) > 5000 {
		t.Errorf("got %.200v", err)
	}
}

func TestAnInstanceThatHasNotChangedIsNotDecodedAgain(t *testing.T) {
	t.Parallel()
	r := synced(put("a", good), put("b", good), put("c", good))
	before := r.cell.Get().Instances
	r.Changed(follow.Change{Revision: 11, Events: []follow.Event{put("b", `{"Addr":"h:2"}`)}})
	after := r.cell.Get().Instances
	if after[0] != before[0] || after[2] != before[2] {
		t.Error("what has not changed is another pointer")
	}
	if after[1] == before[1] || before[1].Addr != "h:1" {
		t.Error("a snapshot that was handed out has changed")
	}
	if slices.Equal(before, after) {
		t.Error("a snapshot that was handed out has changed")
	}
}

func TestAReplacedHistoryRaisesTheGeneration(t *testing.T) {
	t.Parallel()
	r := synced(put("a", good))
	r.Stale(errors.New("went back"))
	r.Changed(follow.Change{Revision: 5, Generation: 1})
	r.Live()
	wantRoster(t, r, Live, 5, "a")
	if g := r.cell.Get().Generation; g != 1 {
		t.Errorf("generation %d", g)
	}
}

// One that is held and comes back as it was, that is written in another form, or that another history has too, is the same one
// for readers: it is the same pointer, and no difference.
func TestWhoeverSaysTheSameAsBeforeIsTheSame(t *testing.T) {
	t.Parallel()
	r := newTestRoster()
	r.holds = newHolds(0.5, defaultHoldFor)
	r.Changed(follow.Change{Revision: 10, Initial: true, Events: []follow.Event{put("a", good), put("b", good), put("c", good)}})
	r.Live()
	f := r.subscribe()
	f.empty()
	before := r.cell.Get().Instances
	for _, step := range []struct {
		what   string
		change follow.Change
	}{
		{"lost", follow.Change{Revision: 11, Events: []follow.Event{del("a"), del("b"), del("c")}}},
		{"back", follow.Change{Revision: 12, Events: []follow.Event{put("a", good), put("b", good), put("c", good)}}},
		{"in another form", follow.Change{Revision: 13, Events: []follow.Event{put("a", `{"Weight":100,"Addr":"h:1","Metadata":{}}`)}}},
		{"in another history", follow.Change{Revision: 5, Generation: 1, Initial: true, Events: []follow.Event{put("a", good), put("b", good), put("c", good)}}},
	} {
		r.Changed(step.change)
		if after := r.cell.Get().Instances; !slices.Equal(before, after) {
			t.Errorf("%s: %v became %v", step.what, before, after)
		}
		for id, s := range f.empty() {
			if s.before != s.after {
				t.Errorf("%s: a difference in %s", step.what, id)
			}
		}
	}
}
