package retry

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Permanent marks err as one that [Do] must not try again, whatever Policy.Retryable says. The mark
// shows through wrapping and joining, and wins over every other error it is joined with: what it is in
// is neither [Transient] nor [Ambiguous]. So mark an error only if its outcome is known. The text stays
// that of err; errors.Is and errors.As see err. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent reports whether err is marked by [Permanent]: for those who repeat by other means than [Do], as a queue delivers again.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

// After marks err as one that [Do] is to try again once d has passed, because whoever was called asked
// for that. The wait replaces the backoff's, and Policy.Retryable is not asked; the bounds on attempts
// and time still hold, so if the wait would pass MaxElapsed or the context's deadline, Do returns at
// once. A [Permanent] in err wins. A negative d counts as zero.
//
// After changes neither the text nor the class of err. After(d, nil) is nil.
func After(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &afterError{d, err}
}

// Asked returns the wait that err asks for, if it is marked by [After].
func Asked(err error) (wait time.Duration, ok bool) {
	after, ok := errors.AsType[*afterError](err)
	if !ok {
		return 0, false
	}
	return max(after.wait, 0), true
}

type afterError struct {
	wait time.Duration
	err  error
}

func (e *afterError) Error() string { return e.err.Error() }
func (e *afterError) Unwrap() error { return e.err }

// gaveUpError is the error of a Do that ended without success after it had started to count.
type gaveUpError struct {
	attempts int
	elapsed  time.Duration
	why      string // why it ended, if the rest does not say so
	late     bool   // because MaxElapsed was over, or would have been
	stop     error  // that of the caller's context; not classified, it says nothing about the attempts
	last     error  // the last attempt's; nil if there was none
	doubt    error  // an earlier attempt's that may have been applied, if any
}

func (e *gaveUpError) Error() string {
	var b strings.Builder
	switch {
	case e.attempts == 0:
		b.WriteString("retry: stopped before the first attempt")
	case e.stop != nil && e.why == "":
		fmt.Fprintf(&b, "retry: stopped after %s in %v", counted(e.attempts, "attempt"), round(e.elapsed))
	default:
		fmt.Fprintf(&b, "retry: gave up after %s in %v", counted(e.attempts, "attempt"), round(e.elapsed))
	}
	if e.why != "" {
		fmt.Fprintf(&b, ", as %s", e.why)
	} else if e.stop != nil {
		fmt.Fprintf(&b, ": %v", e.stop)
	}
	if e.last != nil {
		fmt.Fprintf(&b, ": %v", e.last)
	}
	if e.doubt != nil {
		fmt.Fprintf(&b, " (an earlier attempt may have been applied: %v)", e.doubt)
	}
	return b.String()
}

func (e *gaveUpError) Unwrap() []error {
	var errs []error
	for _, err := range [...]error{e.stop, e.last, e.doubt} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// counted is so many of something.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
