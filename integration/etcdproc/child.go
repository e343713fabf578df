package etcdproc

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// childEnv names the registered child that a re-executed process has to become.
	childEnv = "ETCDPROC_CHILD"
	// lifelineEnv is set when file descriptor 3 is the read end of a pipe that closes as the parent dies.
	lifelineEnv = "ETCDPROC_LIFELINE"
	lifelineFD  = 3
)

// children holds what Child registered. The mutex guards it although registering is usually done by one goroutine:
// an init function or the head of main.
var children = struct {
	sync.Mutex
	byName map[string]func()
}{byName: make(map[string]func())}

// mainCalled tells whether a child of this program would get anywhere.
var mainCalled atomic.Bool

// Child registers main under name: a process that [Spawn] starts with that name runs main and nothing else of the
// program. Call it before [Main], in an init function or at the head of main or TestMain. It panics if the name is
// empty or taken.
//
// The process exits with code 0 when main returns, and with code 2 and a stack trace on stderr if it panics; main
// may also call os.Exit.
func Child(name string, main func()) {
	children.Lock()
	defer children.Unlock()
	if name == "" || children.byName[name] != nil {
		panic(fmt.Sprintf("etcdproc: child name %q is empty or registered twice", name))
	}
	children.byName[name] = main
}

// Main turns a re-executed process into what its parent started it for, an etcd member or a registered child, and
// then never returns. In any other process it returns at once. Call it first in main, or first in TestMain
// (etcdtest.Main does so), before flags are parsed.
func Main() {
	mainCalled.Store(true)
	name, is := os.LookupEnv(childEnv)
	if !is {
		return
	}
	_, lifeline := os.LookupEnv(lifelineEnv)
	// What this process starts in its turn is not a child of that name.
	for _, env := range []string{childEnv, lifelineEnv} {
		if err := os.Unsetenv(env); err != nil {
			exit("cannot unset %s: %v", env, err)
		}
	}
	if lifeline {
		go dieWithParent()
	}
	children.Lock()
	main, known := children.byName[name]
	names := make([]string, 0, len(children.byName))
	for n := range children.byName {
		names = append(names, n)
	}
	children.Unlock()
	if !known {
		slices.Sort(names)
		exit("child %q is not registered; registered before Main: %q", name, names)
	}
	main()
	os.Exit(0)
}

// dieWithParent ends the process as soon as its parent is gone, however that died. A frozen process does not get
// here; on Linux the kernel kills that one (see sysProcAttr).
func dieWithParent() {
	line := os.NewFile(lifelineFD, "lifeline")
	closeOnExec(lifelineFD)
	// The parent never writes: Read returns when its end is closed.
	_, err := line.Read(make([]byte, 1))
	exit("the parent is gone (%v)", err)
}

func exit(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "etcdproc: "+format+"\n", args...)
	os.Exit(1)
}
