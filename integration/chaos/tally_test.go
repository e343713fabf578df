package chaos_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// checking is how long the checker may take for one line.
const checking = time.Minute

// tally is what was seen of one kind in all its lines.
type tally struct {
	claims, failed   int // calls of Lock that returned nil, and an error
	handOvers, under int // and how many of the latter while faults were on
	told             int // of a loss, by the context, before Unlock was called
	writes, reads    int // that were accepted
	unknown, refused int // writes of unknown fate, and what was refused
	overlaps         []overlap
	sameSlots        []overlap
	illegal          []string // histories that no lock can have
	writtenLate      int      // those of them that none can have even if everybody had been told in time
	undecided        int      // histories that took too long to check
}

// judge takes in one line.
func (y *tally) judge(r record) {
	y.claims += len(r.claims)
	y.failed += r.failed
	all, under := r.handOvers()
	y.handOvers += all
	y.under += under
	for _, c := range r.claims {
		if c.told {
			y.told++
		}
	}
	for _, a := range r.accesses {
		switch {
		case a.outcome == refused:
			y.refused++
		case a.outcome == unknown:
			y.unknown++
		case a.verb == write:
			y.writes++
		case a.verb == read:
			y.reads++
		}
	}
	y.overlaps = append(y.overlaps, r.overlaps()...)
	y.sameSlots = append(y.sameSlots, r.sameSlots()...)
	switch check(r) {
	case porcupine.Illegal:
		y.illegal = append(y.illegal, explain(r))
		if check(r.parted()) != porcupine.Ok {
			y.writtenLate++
		}
	case porcupine.Unknown:
		y.undecided++
	case porcupine.Ok:
	}
}

func (y *tally) String() string {
	var longest time.Duration
	for _, o := range y.overlaps {
		longest = max(longest, o.lasted)
	}
	return fmt.Sprintf("%d acquisitions, %d given up; %d hand-overs, %d of them under faults; %d told of a loss; "+
		"%d writes and %d reads accepted, %d refused, %d writes ambiguous; %d overlaps of belief, the longest %v; "+
		"%d of one slot; %d histories illegal, %d of them by late writes, %d undecided",
		y.claims, y.failed, y.handOvers, y.under, y.told, y.writes, y.reads, y.refused, y.unknown,
		len(y.overlaps), longest.Round(time.Millisecond), len(y.sameSlots), len(y.illegal), y.writtenLate, y.undecided)
}

// clean fails the test for whatever must not be.
func (y *tally) clean(t *testing.T) {
	t.Helper()
	for _, o := range y.overlaps {
		t.Errorf("overlap of belief %v", o)
	}
	for _, o := range y.sameSlots {
		t.Errorf("two with slot %d %v", o.claim.slot, o)
	}
	for _, why := range y.illegal {
		t.Errorf("a history that no lock can have:\n%s", why)
	}
	if y.undecided > 0 {
		t.Errorf("%d histories were not checked within %v", y.undecided, checking)
	}
}

// check asks whether a lock could have that history.
func check(r record) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model(r.size), r.operations(r.superseded), checking)
}

// explain tells how far a history goes that no lock can have, and with what it could not go on.
func explain(r record) string {
	const shown = 12
	ops := r.operations(r.superseded)
	_, info := porcupine.CheckOperationsVerbose(model(r.size), ops, checking)
	var longest []porcupine.Operation
	for _, some := range info.PartialLinearizationsOperations() {
		for _, p := range some {
			if len(p) > len(longest) {
				longest = p
			}
		}
	}
	line := func(op porcupine.Operation) string {
		ret := "never"
		if op.Return != math.MaxInt64 {
			ret = time.Duration(op.Return).String()
		}
		return fmt.Sprintf("\t%-50s worker %d, from %v to %s\n",
			describe(op.Input.(input), op.Output.(output)), op.ClientId, time.Duration(op.Call), ret)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d steps in order, the last of them:\n", len(longest), len(ops))
	for _, op := range longest[max(0, len(longest)-shown):] {
		b.WriteString(line(op))
	}
	left := slices.DeleteFunc(slices.Clone(ops), func(op porcupine.Operation) bool { return slices.Contains(longest, op) })
	slices.SortFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	b.WriteString("and then one of these ought to have come:\n")
	for _, op := range left[:min(shown, len(left))] {
		b.WriteString(line(op))
	}
	return b.String()
}
