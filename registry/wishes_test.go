package registry

import (
	"errors"
	"strings"
	"testing"
)

// wanted makes wishes of an instance, asked for in a state.
func wanted(t *testing.T, s State, hide bool) *wishes {
	t.Helper()
	first, err := newWish(Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80", State: s})
	if err != nil {
		t.Fatal(err)
	}
	return newWishes(first, hide)
}

// wanting asks for another state.
func wanting(t *testing.T, w *wishes, s State) {
	t.Helper()
	i := w.newest().instance.clone()
	i.State = s
	next, err := newWish(i)
	if err != nil {
		t.Fatal(err)
	}
	w.add(next)
}

// stands is the state in which the newest wish is to stand in etcd.
func stands(w *wishes) string {
	switch value := w.newest().value; {
	case value == absent:
		return "absent"
	case strings.Contains(value, `"State":"starting"`):
		return "starting"
	case strings.Contains(value, `"State":"draining"`):
		return "draining"
	}
	return "ready"
}

func TestWhatIsWrittenFollowsFromWhatIsAskedForAndFromTheVerdict(t *testing.T) {
	t.Parallel()
	ill := errors.New("no answer")
	for _, c := range []struct {
		asked         State
		healthy, sick string
		hidden        string // healthy, and what is not Ready is to be hidden
		hiddenSick    string
	}{
		{Ready, "ready", "starting", "ready", "absent"},
		{Starting, "starting", "starting", "absent", "absent"},
		{Draining, "draining", "draining", "absent", "absent"},
	} {
		for hide, want := range map[bool][2]string{false: {c.healthy, c.sick}, true: {c.hidden, c.hiddenSick}} {
			w := wanted(t, c.asked, hide)
			if got := stands(w); got != want[0] {
				t.Errorf("%s, hide %v: %s, want %s", c.asked, hide, got, want[0])
			}
			w.judge(ill)
			if got := stands(w); got != want[1] {
				t.Errorf("%s, hide %v, unhealthy: %s, want %s", c.asked, hide, got, want[1])
			}
			if got := w.newest().instance.State; got != c.asked {
				t.Errorf("asked for was %s, and the verdict made it %s", c.asked, got)
			}
			if got := w.illness(); (got != nil) != (c.asked == Ready) {
				t.Errorf("%s and unhealthy: it says %v", c.asked, got)
			}
			w.judge(nil)
			if got := stands(w); got != want[0] || w.illness() != nil {
				t.Errorf("%s, hide %v, healthy again: %s, want %s (%v)", c.asked, hide, got, want[0], w.illness())
			}
		}
	}
}

func TestAnInstanceThatDrainsIsNotMadeReadyByItsHealth(t *testing.T) {
	t.Parallel()
	w := wanted(t, Ready, false)
	w.judge(errors.New("no answer"))
	wanting(t, w, Draining)
	w.judge(nil)
	if got := stands(w); got != "draining" {
		t.Errorf("it drains, its checks pass, and it is %s", got)
	}
	w.judge(errors.New("no answer"))
	wanting(t, w, Ready)
	if got := stands(w); got != "starting" {
		t.Errorf("asked to be ready while it is not healthy, it is %s", got)
	}
	w.judge(nil)
	if got := stands(w); got != "ready" {
		t.Errorf("asked to be ready and healthy, it is %s", got)
	}
}

// An instance that is just not too large must be able to leave.
func TestEveryInstanceThatIsTakenFitsInEveryState(t *testing.T) {
	t.Parallel()
	for size := maxSize - 200; size < maxSize; size++ {
		i := Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80", Version: strings.Repeat("x", size)}
		_, err := newWish(i)
		i.State = Draining
		if _, later := newWish(i); (err == nil) != (later == nil) {
			t.Fatalf("a version of %d bytes: ready %v, draining %v", size, err, later)
		}
	}
}

func TestAnUnhealthyRegistrationSaysWhy(t *testing.T) {
	t.Parallel()
	r := &Registration{key: "services/mail/a", wishes: wanted(t, Ready, false)}
	why := errors.New("no answer")
	r.setHealthy(false, why)
	if err := r.wishes.illness(); !errors.Is(err, ErrUnhealthy) || !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	r.setHealthy(false, nil)
	if err := r.wishes.illness(); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("got %v", err)
	}
	r.setHealthy(true, nil)
	if err := r.wishes.illness(); err != nil {
		t.Errorf("got %v", err)
	}
}
