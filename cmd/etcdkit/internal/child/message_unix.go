//go:build linux || darwin || freebsd || openbsd || dragonfly

package child

import (
	"fmt"
	"time"
)

// What program and minder say to each other, a line each.
const (
	begin    = 'b' // to the minder: start the command
	deadline = 'u' // ... it must be dead at an instant
	end      = 'e' // ... stop it now, it must be dead at an instant
	forward  = 'f' // ... send it a signal
	resume   = 'r' // ... the program goes on after it had stopped itself

	began   = 'B' // from the minder: the command runs, as a process
	failed  = 'F' // ... it could not be started, for an errno; 0 if its time was up
	stopped = 'S' // ... it was stopped by the terminal
	kills   = 'K' // ... it is being killed
	over    = 'O' // ... it has ended, with a wait status; and 1 if it had been told to
)

// message is one of them.
type message struct {
	verb           rune
	number, second int64
}

func (m message) line() string { return fmt.Sprintf("%c %d %d\n", m.verb, m.number, m.second) }

// parse reads a line.
func parse(line string) (m message, ok bool) {
	n, err := fmt.Sscanf(line, "%c %d %d", &m.verb, &m.number, &m.second)
	return m, n == 3 && err == nil
}

// instant is a reading of a clock that all processes of a machine share and nobody can set.
type instant int64

func (i instant) add(d time.Duration) instant { return i + instant(d) }
