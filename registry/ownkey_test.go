package registry

import (
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
