package registry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	defaultCheckPeriod      = 10 * time.Second
	defaultCheckTimeout     = time.Second
	defaultFailureThreshold = 3
	defaultSuccessThreshold = 1

	// minFailureThreshold keeps a single lost packet from taking an instance out.
	minFailureThreshold = 2
)

// ErrUnhealthy is why an instance with checks does not take work: a check fails, or has not passed yet.
var ErrUnhealthy = errors.New("registry: not healthy")

// Check is a question that is asked again and again of an instance that is registered. While a check fails, the instance
// is [Starting] and gets no new work; it is back once all checks pass. It starts as [Starting] too, and is [Ready] when
// every check has passed for the first time: so listen first, and register then.
//
// Make one with [HTTPCheck], [TCPCheck] or [GRPCCheck] and set the other fields as needed, or with a Probe of your own. A
// Check is a value, and may be used in several registrations.
type Check struct {
	// Name is how errors and logs call the check. No two checks of an instance have the same.
	Name string

	// Probe asks once: nil is a pass, an error a failure. It must return when ctx ends, which is after Timeout, or
	// with the registration: closing that waits for it. A probe that returns later has failed, and until it has returned it
	// is not called again: every Period without an answer counts as one more failure. The other checks do not
	// wait for it. The error is shown to whoever asks why the instance is out: no secrets.
	Probe func(ctx context.Context) error

	// InitialDelay is how long after the registration the first probe is made. Default 0: at once.
	InitialDelay time.Duration

	// Period is the time from one probe to the next. Each is up to 10 % shorter or longer, so that many instances that
	// were started together do not probe in step. Default 10 s.
	Period time.Duration

	// Timeout is for how long one probe may take. Default 1 s, or Period if that is less; it must not exceed Period.
	Timeout time.Duration

	// FailureThreshold is how many probes in a row must fail for the check to fail. Default 3, at least 2: one failure
	// takes nobody out.
	FailureThreshold int

	// SuccessThreshold is how many probes in a row must pass for the check to pass. Default 1.
	SuccessThreshold int

	open func() (probe func(ctx context.Context) error, end func()) // instead of Probe: for as long as the checks run
	flaw error                                                      // the rule that what it was made of breaks
}

var (
	errCheckName      = errors.New("it is empty, too long, or holds a control character")
	errCheckTwice     = errors.New("another check has it too")
	errCheckProbe     = errors.New("there is none")
	errCheckNegative  = errors.New("it is negative")
	errCheckTimeout   = errors.New("it is over Period")
	errCheckThreshold = fmt.Errorf("it is under %d, and one failure must take nobody out", minFailureThreshold)
)

// validateChecks returns an error that names the check and the rule that it breaks.
func validateChecks(checks []Check) error {
	names := map[string]bool{}
	for n, c := range checks {
		if err := c.validate(); err != nil {
			return fmt.Errorf("check %d (%.*q) refused: %w", n, maxID, c.Name, err)
		}
		if names[c.Name] {
			return fmt.Errorf("check %d (%q) refused: %w", n, c.Name, refuse("Name", errCheckTwice))
		}
		names[c.Name] = true
	}
	return nil
}

func (c Check) validate() error {
	switch {
	case c.flaw != nil:
		return c.flaw
	case c.Name == "" || len(c.Name) > maxID || !text(c.Name):
		return refuse("Name", errCheckName)
	case c.Probe == nil && c.open == nil:
		return refuse("Probe", errCheckProbe)
	case c.InitialDelay < 0:
		return refuse("InitialDelay", errCheckNegative)
	case c.Period < 0:
		return refuse("Period", errCheckNegative)
	case c.Timeout < 0:
		return refuse("Timeout", errCheckNegative)
	case c.SuccessThreshold < 0:
		return refuse("SuccessThreshold", errCheckNegative)
	case c.FailureThreshold != 0 && c.FailureThreshold < minFailureThreshold:
		return refuse("FailureThreshold", errCheckThreshold)
	case c.Timeout > c.resolve().Period:
		return refuse("Timeout", errCheckTimeout)
	}
	return nil
}

// resolve fills in the defaults.
func (c Check) resolve() Check {
	if c.Period == 0 {
		c.Period = defaultCheckPeriod
	}
	if c.Timeout == 0 {
		c.Timeout = min(defaultCheckTimeout, c.Period)
	}
	if c.FailureThreshold == 0 {
		c.FailureThreshold = defaultFailureThreshold
	}
	if c.SuccessThreshold == 0 {
		c.SuccessThreshold = defaultSuccessThreshold
	}
	return c
}

// begin returns what asks once, and what gives back that which it keeps between probes.
func (c Check) begin() (probe func(ctx context.Context) error, end func()) {
	if c.Probe != nil {
		return c.Probe, func() {}
	}
	return c.open()
}
