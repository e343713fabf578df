package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Root is the prefix of every queue's keys.
const Root = "etcdkit/queue/"

// layout names the keys of one queue. docs/keys.md is the contract.
type layout string

// layoutOf returns the layout of a queue. No name holds two slashes in a row, so that these end it.
func layoutOf(name string) layout { return layout(Root + name + "//") }

// line is the prefix of all that workers watch, and of nothing else.
func (l layout) line() string { return string(l) + "line/" }

func (l layout) jobs() string                { return l.line() + "jobs/" }
func (l layout) job(p place) string          { return l.jobs() + p.path() }
func (l layout) claims() string              { return l.line() + "claims/" }
func (l layout) claim(p place) string        { return l.claims() + p.path() }
func (l layout) workers() string             { return l.line() + "workers/" }
func (l layout) worker(id string) string     { return l.workers() + id }
func (l layout) paused() string              { return l.line() + "paused" }
func (l layout) hold(hash string) string     { return string(l) + "keys/" + hash }
func (l layout) waiting(id string) string    { return string(l) + "ids/" + id }
func (l layout) seen(id string) string       { return string(l) + "seen/" + id }
func (l layout) pushed() string              { return string(l) + "pushed/" }
func (l layout) deads() string               { return string(l) + "dead/" }
func (l layout) dead(id string) string       { return l.deads() + id }
func prefixOf(p string) (from, to string)    { return p, clientv3.GetPrefixRangeEnd(p) }
func (l layout) lane(priority int) string    { return l.jobs() + rank(priority) + "/" }
func (l layout) claimed(priority int) string { return l.claims() + rank(priority) + "/" }

// MaxPriority is the highest priority, and less than its negative the lowest.
const MaxPriority = 99

// rank writes a priority so that the highest comes first.
func rank(priority int) string {
	n := MaxPriority + 1 - priority
	return string([]byte{'0' + byte(n/100), '0' + byte(n/10%10), '0' + byte(n%10)})
}

// mostSlots bounds Concurrency and Prefetch.
const mostSlots = 1000

// firstSpan is how far the first reading of a line goes, in microseconds of its clock: as much as a busy producer pushes in a
// bounded time.
const firstSpan = 1 << 14

// place is where a job stands in line, as the end of its key says.
type place struct {
	priority int
	stem     string // clock and producer: unique
	delayed  bool   // not to be claimed before the clock's time
	key      string // hash of the ordering key, or ""
}

// clockDigits is how many hexadecimal digits a clock has: microseconds, until the year 2112.
const clockDigits = 13

// stemOf writes a reading of a producer's clock and the producer.
func stemOf(clock int64, producer string) string {
	const digits = "0123456789abcdef"
	b := make([]byte, clockDigits, clockDigits+1+len(producer))
	for i := clockDigits - 1; i >= 0; i-- {
		b[i] = digits[clock&15]
		clock >>= 4
	}
	b = append(b, '-')
	return string(append(b, producer...))
}

// hashDigits is how many hexadecimal digits stand for an ordering key.
const hashDigits = 16

// keyHash is what stands for an ordering key in names of keys: two that share it merely wait for each other.
func keyHash(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:hashDigits/2])
}

// path is the place as the end of a key: sorted as strings, paths are in the order of the line.
func (p place) path() string { return rank(p.priority) + "/" + p.local() }

// local is the path below the priority.
func (p place) local() string {
	s := p.stem
	if p.delayed {
		s += "-d"
	}
	if p.key != "" {
		s += "." + p.key
	}
	return s
}

// at is the time that the clock tells.
func (p place) at() time.Time { return time.UnixMicro(p.clock()) }

func (p place) clock() int64 {
	clock, _ := strconv.ParseInt(p.stem[:clockDigits], 16, 64) // checked when the place was parsed
	return clock
}

// clockOf is the clock of a path, or of what begins like one.
func clockOf(path string) int64 {
	const at = len("000/")
	clock, _ := strconv.ParseInt(path[at:min(len(path), at+clockDigits)], 16, 64)
	return clock
}

var errPlace = errors.New("not a place in line")

// parsePlace reads the end of a job's or a claim's key.
func parsePlace(path string) (place, error) {
	var p place
	prio, local, ok := strings.Cut(path, "/")
	if !ok || len(prio) != 3 {
		return p, errPlace
	}
	n, err := strconv.ParseUint(prio, 10, 16)
	if err != nil || n < 1 || n > 2*MaxPriority+1 {
		return p, errPlace
	}
	p.priority = MaxPriority + 1 - int(n)
	local, p.key, ok = strings.Cut(local, ".")
	if ok && (len(p.key) != hashDigits || !isHex(p.key)) {
		return place{}, errPlace
	}
	p.stem, p.delayed = strings.CutSuffix(local, "-d")
	clock, producer, ok := strings.Cut(p.stem, "-")
	if !ok || len(clock) != clockDigits || !isHex(clock) || producer == "" || strings.ContainsAny(producer, "/-") {
		return place{}, errPlace
	}
	if p.path() != path {
		return place{}, errPlace
	}
	return p, nil
}

// isHex reports whether s has none but the digits that we write: another way to write a clock is another place in line.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// generated reports whether an ID is one that we make, and so can be of no job but one: it needs no marker.
func generated(id string) bool {
	at, err := parsePlace(rank(0) + "/" + id)
	return err == nil && at.stem == id
}
