package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// holdsTest plays edits against holds and a list, as a roster does.
type holdsTest struct {
	t    *testing.T
	h    holds
	list []*Instance
	now  time.Time
}

func newHoldsTest(t *testing.T, share float64, n int) *holdsTest {
	t.Helper()
	ht := &holdsTest{t: t, h: newHolds(share, time.Minute), now: time.Unix(1000, 0)}
	for i := range n {
		ht.list = append(ht.list, &Instance{ID: fmt.Sprintf("i%02d", i)})
	}
	return ht
}

// named makes an edit of each: "-" is lost, "/" has left, and others come.
func (ht *holdsTest) named(what string) (edits []edit) {
	for w := range strings.FieldsSeq(what) {
		id := strings.TrimLeft(w, "-/")
		e := edit{id: id, before: find(ht.list, id)}
		switch w[0] {
		case '-':
			e.lost, e.lease = true, 7
		case '/':
			e.left = true
		default:
			e.after = &Instance{ID: id}
		}
		edits = append(edits, e)
	}
	return edits
}

func (ht *holdsTest) edit(what string) {
	ht.list = merge(ht.list, ht.h.keep(ht.named(what), len(ht.list), ht.now))
}

func (ht *holdsTest) settle(why Reason, nobody, live bool) {
	ht.list = merge(ht.list, ht.h.settle(map[int64]Reason{7: why}, nobody, live, len(ht.list), ht.now))
}

func (ht *holdsTest) want(listed int, held string) {
	ht.t.Helper()
	if got := strings.Join(ids(ht.h.list()), " "); len(ht.list) != listed || got != held {
		ht.t.Errorf("%d listed and %q held, want %d and %q", len(ht.list), got, listed, held)
	}
}

func TestAMassLossIsHeld(t *testing.T) {
	t.Parallel()
	ht := newHoldsTest(t, 0.5, 6)
	ht.edit("-i00 -i01 -i02")
	ht.want(3, "") // half is not more than half
	ht.edit("-i03")
	ht.want(3, "i03") // with those before, it is
	ht.edit("-i04 -i05")
	ht.want(3, "i03 i04 i05")

	ht.edit("i04") // is back
	ht.want(3, "i03 i05")
	ht.settle(Unknown, false, true)
	ht.want(3, "i03 i05")
	ht.settle(Expired, false, true)
	ht.want(3, "i03 i05")
	if len(ht.h.unasked()) > 0 {
		t.Error("who is known to have expired is asked for again")
	}
	ht.now = ht.now.Add(time.Minute)
	ht.settle(Expired, false, false)
	ht.want(3, "i03 i05") // nobody goes while the view is cut off
	ht.settle(Expired, false, true)
	ht.want(1, "")
}

func TestWhoWasDeletedOrHasLeftIsNotHeld(t *testing.T) {
	t.Parallel()
	ht := newHoldsTest(t, 0.5, 6)
	ht.edit("/i00 /i01 /i02 /i03")
	ht.want(2, "")
	ht = newHoldsTest(t, 0.5, 6)
	ht.edit("-i00 -i01 -i02 -i03")
	ht.want(6, "i00 i01 i02 i03")
	ht.settle(Deleted, false, true)
	ht.want(2, "")
}

func TestFewOrOldLossesAreNoMassLoss(t *testing.T) {
	t.Parallel()
	ht := newHoldsTest(t, 0.5, 3)
	ht.edit("-i00 -i01")
	ht.want(1, "")
	ht = newHoldsTest(t, 0.5, 6)
	for _, id := range []string{"-i00", "-i01", "-i02", "-i03"} {
		ht.edit(id)
		ht.now = ht.now.Add(massWindow)
	}
	ht.want(2, "")
	ht = newHoldsTest(t, -1, 6)
	ht.edit("-i00 -i01 -i02 -i03 -i04")
	ht.want(1, "")
}

func TestAnEmptyListWaitsForAConfirmation(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"-i00 -i01", "/i00 /i01"} {
		ht := newHoldsTest(t, -1, 2)
		ht.edit(how)
		ht.want(2, "")
		if !ht.h.unconfirmed() {
			t.Fatal("nothing to confirm")
		}
		ht.settle(Expired, false, true)
		ht.want(2, "i00 i01") // and now that is known to readers
		ht.settle(Expired, true, true)
		ht.want(0, "")
	}
}

func TestAnEmptyListThatFillsNeedsNoConfirmation(t *testing.T) {
	t.Parallel()
	ht := newHoldsTest(t, -1, 2)
	ht.edit("-i00 -i01")
	ht.edit("i01 i02")
	ht.want(2, "")
	if ht.h.waiting() || find(ht.list, "i00") != nil {
		t.Errorf("left: %q", ids(ht.list))
	}
}

func TestTheLastOfAMassLossWaitForAConfirmationToo(t *testing.T) {
	t.Parallel()
	ht := newHoldsTest(t, 0.5, 4)
	ht.edit("-i00 -i01 -i02 -i03")
	ht.want(4, "i00 i01 i02 i03")
	ht.now = ht.now.Add(time.Minute)
	ht.settle(Expired, false, true)
	ht.settle(Expired, false, true)
	ht.want(4, "i00 i01 i02 i03")
	ht.settle(Expired, true, true)
	ht.want(0, "")
}
