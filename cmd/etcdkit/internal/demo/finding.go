package demo

import (
	"errors"
	"fmt"
	"time"
)

// finding is a promise and what was seen of it: a line of the summary.
type finding struct {
	promise string
	seen    string // with figures; meaningless if err is set
	err     error  // why the promise does not hold
}

// errNotReached is why a promise does not hold that the demo never came to.
var errNotReached = errors.New("not reached")

// What the demo promises, in the order in which it shows it.
const (
	promiseDiscovery   = "all who start find each other"
	promiseRepricing   = "a config change reaches all"
	promiseRefusal     = "a bad one is refused by all"
	promiseSuccession  = "the next leader's token is larger"
	promiseReplacement = "a replacement is found by all"
	promiseFailover    = "etcd's leader dies, no lock lost"
	promiseFence       = "a frozen holder's write is refused"
	promiseReturn      = "it is found again when it wakes"
	promiseFarewell    = "a graceful stop waits for no TTL"
	promiseBook        = "orders have no gap and no double"
	promiseReign       = "leaders come one at a time"
	promiseCleanup     = "nothing is left running"
)

// promises are all of them.
var promises = []string{
	promiseDiscovery, promiseRepricing, promiseRefusal, promiseSuccession, promiseReplacement, promiseFailover,
	promiseFence, promiseReturn, promiseFarewell, promiseBook, promiseReign, promiseCleanup,
}

// judge makes a finding of what a check returned.
func judge(promise string, check func() (string, error)) finding {
	seen, err := check()
	return finding{promise: promise, seen: seen, err: err}
}

// seconds is a duration of whole seconds.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// broken is a reason why a promise does not hold.
func broken(format string, args ...any) (string, error) { return "", fmt.Errorf(format, args...) }
