package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

func TestTheDemoShowsThatEverythingHoldsAndLeavesNothing(t *testing.T) {
	began := time.Now()
	r := launch(t, "demo")
	out, code := r.wait()
	took := time.Since(began)
	if code != 0 || r.errs.Len() > 0 {
		t.Fatalf("code %d, stderr %q\n%s", code, &r.errs, out)
	}
	_, table, _ := strings.Cut(out, "promised")
	if held := strings.Count(table, "\n ✓ "); held != 12 || strings.ContainsAny(table, "✗–") {
		t.Errorf("%d of 12 promises are marked as held:\n%s", held, table)
	}
	if !strings.Contains(table, "All 12 held") {
		t.Errorf("no last word:\n%s", table)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
		if strings.Contains(line, "\x1b") || strings.Contains(line, "\r") {
			t.Errorf("what is no terminal gets %q", line)
		}
	}
	if took > time.Minute {
		t.Errorf("it took %v", took)
	}
	r.nothingLeft()
}

func TestADemoThatIsInterruptedLeavesNothing(t *testing.T) {
	for _, reached := range []string{
		"  1  Discovery",
		"  4  Leadership",
		"  6  Fencing",
	} {
		r := launch(t, "demo")
		r.expect(reached)
		r.signal(syscall.SIGINT)
		began := time.Now()
		out, code := r.wait()
		if code != exit.Interrupted || r.errs.String() != "etcdkit demo: interrupted\n" || strings.Contains(out, "held") {
			t.Errorf("interrupted after %q: code %d, stderr %q\n%s", reached, code, &r.errs, out)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("interrupted after %q: it took %v", reached, took)
		}
		r.nothingLeft()
	}
}

// A frozen process cannot see its parent die, and its parent cannot see to it any more.
func TestADemoThatIsKilledLeavesNoProcessNotEvenAFrozenOne(t *testing.T) {
	r := launch(t, "demo")
	for !strings.Contains(r.expect(margin), "freezes") {
	}
	if n := len(r.processes()); n != 7 {
		t.Errorf("%d processes, want the demo, 3 members and 3 services", n)
	}
	r.signal(syscall.SIGKILL)
	r.wait()
	r.noProcess()
}

func TestADemoWhoseReaderHasGoneStopsAndLeavesNothing(t *testing.T) {
	r := launch(t, "demo")
	r.expect("  1  Discovery")
	if err := r.out.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, code := r.wait(); code != exit.Failed || !strings.Contains(r.errs.String(), "broken pipe") {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v: all that nobody sees was shown", took)
	}
	r.nothingLeft()
}

// margin begins every line that tells what somebody does.
const margin = "     "
