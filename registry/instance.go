package registry

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/internal/names"
)

const (
	// defaultPrefix is what the keys of all services start with unless options say otherwise.
	defaultPrefix = "services"

	defaultWeight = 100
	maxWeight     = 1_000_000

	// maxSize bounds an instance in etcd, ID and value together. Every reader holds every instance of a
	// service, and reads what anybody may have written.
	maxSize = 64 << 10

	// maxID bounds an ID, which stands in logs and errors.
	maxID = 255
)

// State is whether an instance may be given work.
type State uint8

const (
	// Ready is the state of an instance that takes work. It is the zero State, and that of all that etcd's naming/endpoints
	// has written.
	Ready State = iota

	// Starting is the state of one that does not take work yet, or not at present: it starts, or its health checks fail.
	Starting

	// Draining is the state of one that is about to leave: it finishes what it has, and is to be given nothing new.
	Draining
)

// stateNames are the states as they stand in a value in etcd.
var stateNames = [...]string{Ready: "ready", Starting: "starting", Draining: "draining"}

// String names the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Instance is one process that serves, as others find it.
type Instance struct {
	// Service is what it serves: "mail", or "shop/cart". It may start with a slash, and does not end in one; no
	// other segment is empty, and none is "..".
	Service string

	// ID tells the instances of a service apart, and is the same one after a restart: a pod's or a machine's
	// name. It holds no slash, and at most 255 bytes. Who registers an ID takes it over from who had it before.
	ID string

	// Addr is where others reach it: host:port, with a number for the port.
	Addr string

	// Zone and Version are for whoever chooses among instances. They may be empty.
	Zone, Version string

	// Weight is the share of the load it should get, relative to the others. Default 100, at most 1,000,000.
	Weight int

	// State is whether it may be given work. Default Ready.
	State State

	// Metadata is whatever else is to be known. Keys must not be empty. An instance that was written by
	// etcd's naming/endpoints may carry any JSON: members that are no strings are given as their JSON text,
	// and metadata that is no object as that of the key "".
	Metadata map[string]string
}

// clone returns a copy that shares nothing with i.
func (i Instance) clone() Instance {
	i.Metadata = maps.Clone(i.Metadata)
	return i
}

// Equal reports whether both say the same. In a view that is mostly told by the pointers, which are the same then; in two views it
// is not.
func (i *Instance) Equal(o *Instance) bool {
	return i == o || i.Service == o.Service && i.ID == o.ID && i.Addr == o.Addr && i.Zone == o.Zone && i.Version == o.Version &&
		i.Weight == o.Weight && i.State == o.State && maps.Equal(i.Metadata, o.Metadata)
}

var (
	errAddr        = errors.New("it is not host:port with a port from 1 to 65535")
	errUnspecified = errors.New("it is an address to listen on, which others cannot reach")
	errText        = errors.New("it holds a control character or is not UTF-8")
	errWeight      = fmt.Errorf("it is not from 1 to %d (0 means %d)", maxWeight, defaultWeight)
	errState       = errors.New("it is not starting, ready or draining")
	errMetadata    = errors.New("it has an empty key or is not UTF-8")
	errLarge       = fmt.Errorf("ID and value together are over %d KiB", maxSize>>10)
	errID          = fmt.Errorf("it is over %d bytes", maxID)
)

// refuse names the field that breaks a rule, and the rule.
func refuse(field string, rule error) error { return fmt.Errorf("%s refused: %w", field, rule) }

// check returns an error for a field that no instance can have, written by whomever.
func (i *Instance) check() error {
	if len(i.ID) > maxID {
		return refuse("ID", errID)
	}
	if err := names.Segment("instance", i.ID); err != nil {
		return err
	}
	switch {
	case !hostPort(i.Addr):
		return refuse("Addr", errAddr)
	case !text(i.Zone):
		return refuse("Zone", errText)
	case !text(i.Version):
		return refuse("Version", errText)
	case i.Weight < 1 || i.Weight > maxWeight:
		return refuse("Weight", errWeight)
	case int(i.State) >= len(stateNames):
		return refuse("State", errState)
	}
	return nil
}

// checkOwn returns an error for a field that this process must not register with.
func (i *Instance) checkOwn() error {
	if err := i.check(); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(i.Addr)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return refuse(fmt.Sprintf("Addr %q", i.Addr), errUnspecified)
	}
	for k, v := range i.Metadata {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return refuse("Metadata", errMetadata)
		}
	}
	return nil
}

// servicePrefix is what the keys of a service's instances start with. It ends in a slash, so that "mail" never
// sees "mail2".
func servicePrefix(prefix, service string) (string, error) {
	if prefix == "" {
		prefix = defaultPrefix
	}
	if err := names.Path("prefix", prefix); err != nil {
		return "", err
	}
	if err := names.Path("service", service); err != nil {
		return "", err
	}
	return prefix + "/" + service + "/", nil
}

// hostPort reports whether addr is one that can be dialled.
func hostPort(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || !text(host) || strings.ContainsAny(host, " /") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// text reports whether s can be shown on a line.
func text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
