package registry

import (
	"context"
	"strings"
	"testing"
	"time"
)

// passes is a probe that does.
func passes(context.Context) error { return nil }

func TestAChecksDefaultsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	c := Check{Name: "a", Probe: passes}.resolve()
	if c.Period != 10*time.Second || c.Timeout != time.Second || c.InitialDelay != 0 || c.FailureThreshold != 3 || c.SuccessThreshold != 1 {
		t.Errorf("got %+v", c)
	}
	if c := (Check{Period: time.Millisecond}).resolve(); c.Timeout != time.Millisecond {
		t.Errorf("with a short period the timeout is %v", c.Timeout)
	}
	all := Check{Name: "a", Probe: passes, InitialDelay: 1, Period: 3, Timeout: 2, FailureThreshold: 4, SuccessThreshold: 5}
	if c := all.resolve(); c.InitialDelay != 1 || c.Period != 3 || c.Timeout != 2 || c.FailureThreshold != 4 || c.SuccessThreshold != 5 {
		t.Errorf("what was set became %+v", c)
	}
}

func TestGoodChecksAreTaken(t *testing.T) {
	t.Parallel()
	if err := validateChecks(nil); err != nil {
		t.Error(err)
	}
	err := validateChecks([]Check{
		{Name: "own", Probe: passes},
		{Name: "all", Probe: passes, InitialDelay: 1, Period: 2, Timeout: 2, FailureThreshold: 2, SuccessThreshold: 1},
		HTTPCheck("http://127.0.0.1:8080/healthz?deep=1"), HTTPCheck("https://mail.example/"),
		TCPCheck("[::1]:80"), GRPCCheck("localhost:80", ""), GRPCCheck("localhost:80", "mail.v1.Mail"),
	})
	if err != nil {
		t.Error(err)
	}
}

func TestChecksThatBreakARuleAreRefusedByItsName(t *testing.T) {
	t.Parallel()
	for rule, c := range map[string]Check{
		"Name refused: it is empty":                {Probe: passes},
		"Name refused: it is empty, too long":      {Name: strings.Repeat("x", maxID+1), Probe: passes},
		"or holds a control character":             {Name: "a\nb", Probe: passes},
		"Probe refused: there is none":             {Name: "a"},
		"InitialDelay refused: it is negative":     {Name: "a", Probe: passes, InitialDelay: -1},
		"Period refused: it is negative":           {Name: "a", Probe: passes, Period: -1},
		"Timeout refused: it is negative":          {Name: "a", Probe: passes, Timeout: -1},
		"Timeout refused: it is over Period":       {Name: "a", Probe: passes, Timeout: 11 * time.Second},
		"SuccessThreshold refused: it is negative": {Name: "a", Probe: passes, SuccessThreshold: -1},
		"one failure must take nobody out":         {Name: "a", Probe: passes, FailureThreshold: 1},
		"FailureThreshold refused: it is under 2":  {Name: "a", Probe: passes, FailureThreshold: -1},
		"URL refused":                          HTTPCheck("127.0.0.1:8080/healthz"),
		"it is not http://host/path":           HTTPCheck("ftp://h/"),
		"or https://host/path":                 HTTPCheck("http:///healthz"),
		"address refused: it is not host:port": TCPCheck("localhost"),
		"with a port from 1 to 65535":          GRPCCheck("localhost:http", ""),
	} {
		err := validateChecks([]Check{{Name: "good", Probe: passes}, c})
		if err == nil || !strings.Contains(err.Error(), rule) || !strings.Contains(err.Error(), "check 1 (") || len(err.Error()) > 1000 {
			t.Errorf("got %v, want the rule %q", err, rule)
		}
	}
	err := validateChecks([]Check{TCPCheck("a:1"), TCPCheck("b:1"), TCPCheck("a:1")})
	if err == nil || !strings.Contains(err.Error(), "another check has it too") {
		t.Errorf("of two checks with one name: %v", err)
	}
}

func TestTheRefusalOfAURLDoesNotQuoteIt(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"http://u:hunter2@h:80:80/", "ftp://u:hunter2@h/", "http://h/\x00hunter2"} {
		if err := validateChecks([]Check{HTTPCheck(u)}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", u, err)
		}
	}
}
