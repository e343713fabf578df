package seecli

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/registry"
)

// Parts of keys that docs/keys.md lays down.
const (
	slashes    = "//" // no name holds two in a row: what is before them is one
	workers    = slashes + "line/workers/"
	drivers    = slashes + "drivers/"
	configRoot = "etcdkit/config/"
	reports    = slashes + "report/"
)

// shared is the end of a key that takes a share of a line, before its lease.
var shared = regexp.MustCompile(`^~(?:r|[0-9]+)\.[0-9]+-`)

// leased is the end of a key that names a lease.
var leased = regexp.MustCompile(`^[1-9a-f][0-9a-f]{0,15}(-[0-9]+)?$`)

// placeOf reads a key as a place in a line, as etcdkit, etcd's concurrency package and etcdctl write it: it names the lease that it hangs
// on. numbered is set if it has etcdkit's number behind that.
func placeOf(key string, lease int64) (name string, numbered, ok bool) {
	name, last, ok := cutLast(key)
	if !ok || lease == 0 || strings.HasPrefix(key, queue.Root) && strings.Contains(key, workers) {
		return "", false, false
	}
	last = strings.TrimPrefix(last, shared.FindString(last))
	id, number, numbered := strings.Cut(last, "-")
	if id != leases.Hex(clientv3.LeaseID(lease)) || numbered && !decimal(number) {
		return "", false, false
	}
	return name, numbered, true
}

// looksPlaced reports whether a key may be a place in a line, or a slot: it is one if it hangs on the lease that it names.
func looksPlaced(key string) bool {
	_, last, ok := cutLast(key)
	if !ok || strings.HasPrefix(key, queue.Root) && strings.Contains(key, workers) {
		return false
	}
	if strings.HasPrefix(last, "~") && strings.Contains(last, ".#") {
		return true
	}
	return leased.MatchString(strings.TrimPrefix(last, shared.FindString(last)))
}

// slotOf reads a key as the number of one who has a share of a line.
func slotOf(key string, lease int64) (name string, slot int, ok bool) {
	name, last, ok := cutLast(key)
	size, number, cut := strings.Cut(last, ".#")
	if !ok || !cut || lease == 0 || !strings.HasPrefix(size, "~") || !decimal(size[1:]) || !decimal(number) {
		return "", 0, false
	}
	slot, err := strconv.Atoi(number)
	return name, slot, err == nil
}

// cutLast parts a key at its last slash; neither part may be empty.
func cutLast(key string) (before, last string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i < 1 || i == len(key)-1 {
		return "", "", false
	}
	return key[:i], key[i+1:], true
}

func decimal(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// owner is how a lock's value, and that of a worker or a driver of a schedule, describes who put it.
type owner struct {
	Who   string    `json:"who"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	Trace string    `json:"trace"`
}

// ownerOf reads one; what is not written so describes nobody.
func ownerOf(value []byte) (o owner, ok bool) {
	if json.Unmarshal(value, &o) != nil || o.Since.IsZero() || o.PID == 0 {
		return owner{}, false
	}
	return o, true
}

// String names the process.
func (o owner) String() string {
	var parts []string
	if o.Who != "" {
		parts = append(parts, o.Who)
	}
	if o.Host != "" {
		parts = append(parts, o.Host)
	}
	if o.PID != 0 {
		parts = append(parts, strconv.Itoa(o.PID))
	}
	return strings.Join(parts, " ")
}

// instanceOf reads an instance of a service; nil if the key holds none.
func instanceOf(key string, value []byte) *registry.Instance {
	service, id, ok := cutLast(key)
	if !ok || !strings.Contains(service, "/") {
		return nil
	}
	_, service, _ = strings.Cut(service, "/")
	i, err := registry.DecodeJSON(service, id, value)
	if err != nil {
		return nil
	}
	return i
}

// sharesOf reads a place's share.
func sharesOf(s turn.Share) (mode string) {
	switch {
	case s == turn.Share{}:
		return "all"
	case s.Size == turn.Unlimited:
		return "reads"
	}
	return "permits"
}
