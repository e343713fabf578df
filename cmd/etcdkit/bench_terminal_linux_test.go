package main

import (
	"strings"
	"testing"
)

func TestABenchShowsHowFarItIsAndThenATable(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s := benchShell(t)
	term := newTerminal(t)
	term.wide(80)
	code := make(chan int, 1)
	go func() {
		code <- execute([]string{"bench", "--endpoints", s.endpoint, "--only", "lock", "--duration", "1s"}, term.tty, term.tty, term.tty)
	}()
	term.shows("lock: ")
	term.shows(" s left")
	term.ends(code, 0)
	seen := term.shows("MEASURED  CLIENTS  COUNT  PER SECOND")
	if _, table, _ := strings.Cut(seen, "MEASURED"); strings.Contains(table, "left") || !strings.Contains(table, "lock ") {
		t.Errorf("%q", seen)
	}
}
