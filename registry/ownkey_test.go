package registry

import (
	"errors"
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

func TestTheFateOfAKeyIsToldByItsLease(t *testing.T) {
	t.Parallel()
	const earlier, current, foreign = 1, 2, 3
	leases := []int64{earlier, current}
	for what, c := range map[string]struct {
		found *follow.Entry
		want  fate
	}{
		"gone":                            {nil, disturbed},
		"as it was written":               {&follow.Entry{Lease: current, Value: []byte("v")}, unchanged},
		"another value, put without one":  {&follow.Entry{Value: []byte("x")}, disturbed},
		"the same value without a lease":  {&follow.Entry{Value: []byte("v")}, disturbed},
		"another value, the lease kept":   {&follow.Entry{Lease: current, Value: []byte("x")}, disturbed},
		"of an earlier session":           {&follow.Entry{Lease: earlier, Value: []byte("v")}, disturbed},
		"of somebody else":                {&follow.Entry{Lease: foreign, Value: []byte("x")}, taken},
		"the same value of somebody else": {&follow.Entry{Lease: foreign, Value: []byte("v")}, taken},
	} {
		if got := fateOf(c.found, "v", leases); got != c.want {
			t.Errorf("%s: got %d, want %d", what, got, c.want)
		}
	}
	for what, c := range map[string]struct {
		found *follow.Entry
		want  fate
	}{
		"gone":                           {nil, unchanged},
		"nothing, put without a lease":   {&follow.Entry{}, disturbed},
		"nothing, put on its own lease":  {&follow.Entry{Lease: current}, disturbed},
		"what it was, on its own lease":  {&follow.Entry{Lease: current, Value: []byte("v")}, disturbed},
		"somebody else, whoever that is": {&follow.Entry{Lease: foreign}, taken},
	} {
		if got := fateOf(c.found, absent, leases); got != c.want {
			t.Errorf("hidden, and found is %s: got %d, want %d", what, got, c.want)
		}
	}
}

// After an interruption the key is followed anew: a view that knows nothing of what was before.
func TestAViewThatBeginsBeforeWhatIsKnownShowsThatHistoryWasReplaced(t *testing.T) {
	t.Parallel()
	o := newOwnKey()
	mine := &follow.Entry{Lease: 7, Value: []byte("v")}
	for _, c := range []struct {
		what       string
		asked      int64
		change     follow.Change
		generation int64
		there      bool
	}{
		{"the first view", 20, follow.Change{Initial: true, Revision: 20, Events: []follow.Event{{New: mine}}}, 0, true},
		{"the next", 20, follow.Change{Initial: true, Revision: 30, Events: []follow.Event{{New: mine}}}, 0, true},
		{"one that finds nothing", 40, follow.Change{Initial: true, Revision: 40}, 0, false},
		{"one from before", 40, follow.Change{Initial: true, Revision: 39, Events: []follow.Event{{New: mine}}}, 1, true},
		{"its next step", 40, follow.Change{Revision: 41}, 1, true},
		{"what it finds out itself", 40, follow.Change{Revision: 5, Generation: 1}, 2, true},
		{"the one after it", 6, follow.Change{Initial: true, Revision: 7, Events: []follow.Event{{New: mine}}}, 2, true},
	} {
		o.asked = c.asked
		o.Changed(c.change)
		if seen := o.last(); seen.generation != c.generation || (seen.entry != nil) != c.there || seen.revision != c.change.Revision {
			t.Errorf("%s: generation %d, revision %d, found %v", c.what, seen.generation, seen.revision, seen.entry)
		}
	}
}

func TestWhoHasTheIDIsNamedOnlyByAnAddress(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`{"Addr":"10.0.0.8:80"}`:   ErrReplaced.Error() + ": it is at 10.0.0.8:80",
		`{"Addr":"evil\nline:80"}`: ErrReplaced.Error(),
		`{"Addr":7}`:               ErrReplaced.Error(),
		"garbage":                  ErrReplaced.Error(),
		"":                         ErrReplaced.Error(),
	} {
		err := replacedBy(&follow.Entry{Value: []byte(value)})
		if err.Error() != want || !errors.Is(err, ErrReplaced) {
			t.Errorf("%q: got %v", value, err)
		}
	}
}

func TestASightingThatIsOldNewsIsNotJudged(t *testing.T) {
	t.Parallel()
	const lease = 7
	a := &announcer{own: newOwnKey(), leases: []int64{lease}, value: "new", known: 20}
	before := &follow.Entry{Lease: lease, Value: []byte("old")}
	written := &follow.Entry{Lease: lease, Value: []byte("new")}
	for _, c := range []struct {
		what   string
		change follow.Change
		want   fate
	}{
		{"before the last write", follow.Change{Revision: 10, Initial: true, Events: []follow.Event{{New: before}}}, unknown},
		{"gone before the last write", follow.Change{Revision: 15, Events: []follow.Event{{Old: before}}}, unknown},
		{"the last write", follow.Change{Revision: 20, Events: []follow.Event{{New: written}}}, unchanged},
		{"gone after it", follow.Change{Revision: 21, Events: []follow.Event{{Old: written}}}, disturbed},
		{"put back and gone unseen", follow.Change{Revision: 30}, disturbed},
		{"of a history that was replaced", follow.Change{Revision: 5, Generation: 1, Events: []follow.Event{{New: before}}}, disturbed},
		{"after that", follow.Change{Revision: 6, Generation: 1, Events: []follow.Event{{Old: before, New: written}}}, unchanged},
	} {
		a.own.Changed(c.change)
		if got := a.look(); got != c.want {
			t.Errorf("%s: got %d, want %d", c.what, got, c.want)
		}
	}
}
