// Package child runs a command that must not outlive a deadline, nor the process that has started it.
//
// # Model
//
// Between the program and the command stands a minder: this program executed again, which does nothing else. It holds the deadline,
// and it stops the command, whatever has become of the program:
//
//	program ──► minder ──► command ──► what that starts
//	   │ deadline │           a process group of its own
//	   └──────────┘
//
//	the program says so (Stop)       SIGTERM, and SIGKILL after a grace
//	the deadline comes               SIGTERM a grace before, SIGKILL when it is there, whether the program runs, hangs or is frozen
//	the program dies, however        SIGKILL at once
//	the minder dies, or is frozen    SIGKILL by the kernel, or by the program a moment after the deadline
//	the command ends by itself       what it has left behind is told to end as well: SIGTERM, SIGKILL after a grace
//
// SIGTERM goes to the process group. SIGKILL goes, on Linux, to everything that descends from the command, those too that have left
// the group (setsid, double fork): orphans come to the minder. A process is over when nothing of all that is left.
//
// The command stands in the foreground of the terminal as soon as it wants to, and Ctrl-C, Ctrl-Z and fg do with it what they would
// without etcdkit in between.
//
// # Limits
//
// What the command has others do (systemd-run, at, docker, another machine) is not stopped. Neither is what has got another user's
// rights (sudo), if the program has not the right to signal it: it is named in [Status.Left].
//
// If minder and program are killed by SIGKILL at the same moment, the kernel kills the command, but not what it has started.
// If the minder is frozen and then the program killed, nothing is stopped. On a machine that was suspended past the deadline the
// command runs for up to a tenth of a second after the wake-up. Against these only the fencing token helps.
//
// Outside of Linux there is no signal of a parent's death: only the process group is stopped, by the minder, or by the program if
// the minder has died. On Windows nothing is run.
package child
