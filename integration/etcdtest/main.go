package etcdtest

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// mainCalled tells whether there is somebody to stop the shared cluster.
var mainCalled atomic.Bool

// Main is the TestMain of a package that uses this one:
//
//	func TestMain(m *testing.M) { etcdtest.Main(m) }
//
// It runs the tests, stops the shared cluster, and fails a run that passed if a goroutine is left: one of the
// tests', of the code under test, or of a client that was not closed. It then exits the process. A process that
// package etcdproc started as a child does not get as far as the tests (see [etcdproc.Main]).
func Main(m *testing.M) {
	etcdproc.Main()
	mainCalled.Store(true)
	stop := measureLag()
	code := m.Run()
	stop()
	if err := stopShared(); err != nil {
		fmt.Fprintf(os.Stderr, "etcdtest: stopping the shared cluster: %v\n", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := leaked(); err != nil {
			fmt.Fprintf(os.Stderr, "etcdtest: a goroutine is left after the last test: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns an error that names the goroutines left, once it is sure that they stay. There is no list of
// exceptions: when a member has stopped nothing of it is left.
func leaked() (err error) {
	// goleak itself gives them half a second, which is little for connections that end on a busy machine.
	for range 6 {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}
