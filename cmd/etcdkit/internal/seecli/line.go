package seecli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/turn"
	"github.com/etcdkit/etcdkit/queue"
)

// Kinds of lines. What is told from keys and values cannot tell an RWMutex with writers alone from a Mutex, nor an election in which all
// values are empty from one either.
const (
	mutex     = "mutex"
	readers   = "readers"
	semaphore = "semaphore"
	election  = "election"
	schedule  = "schedule" // who drives a queue's periodic jobs
)

// otherClient is what is known of who did not come by etcdkit.
const otherClient = "etcdctl/concurrency"

// line is one line: a lock, or an election.
type line struct {
	name    string
	kind    string
	size    int // of a semaphore
	holders []place
	waiting []place
}

// place is one place in a line.
type place struct {
	turn.Standing
	owner
	described bool // its value is what etcdkit says of a process
	numbered  bool // its key is etcdkit's
	foreign   bool // its key is nobody's that is known
}

// readLine makes a line of all keys below its name, whatever their order.
func readLine(name string, keys []*follow.Entry) line {
	prefix := turn.Prefix(name)
	byAge := slices.Clone(keys)
	slices.SortStableFunc(byAge, func(a, b *follow.Entry) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	l := line{name: name}
	for _, s := range turn.Standings(prefix, byAge) {
		p := place{Standing: s}
		p.owner, p.described = ownerOf(s.Value)
		_, numbered, known := placeOf(string(s.Key), s.Lease)
		p.numbered, p.foreign = numbered, !known
		if p.Owns {
			l.holders = append(l.holders, p)
		} else {
			l.waiting = append(l.waiting, p)
		}
	}
	l.kind = l.tell()
	return l
}

// all is who is in the line, those who hold first.
func (l *line) all() []place { return slices.Concat(l.holders, l.waiting) }

// tell is the kind of the line.
func (l *line) tell() string {
	kind := mutex
	for _, p := range l.all() {
		switch {
		case p.Share.Size == turn.Unlimited:
			return readers
		case p.Share.Size > 0:
			l.size = p.Share.Size
			return semaphore
		case !p.foreign && !p.described && len(p.Value) > 0:
			kind = election
		}
	}
	if _, _, ok := driverOf(l.name); ok && kind == mutex {
		return schedule
	}
	return kind
}

// driverOf reads the name of a line in which processes stand to drive a queue's schedule.
func driverOf(name string) (of, schedule string, ok bool) {
	rest, ok := strings.CutPrefix(name, queue.Root)
	if !ok {
		return "", "", false
	}
	of, rest, ok = strings.Cut(rest, drivers)
	schedule, ends := strings.CutSuffix(rest, "/")
	return of, schedule, ok && ends
}

// taken is how many permits of a semaphore are held.
func (l *line) taken() (n int) {
	for _, p := range l.holders {
		n += p.Share.Weight
	}
	if len(l.holders) > 0 && l.holders[0].Share == (turn.Share{}) { // a writer takes it whole
		return l.size
	}
	return n
}

// title says what the line is, and how it stands.
func (l *line) title() string {
	holds, hold := "holds it", "hold it"
	kind := l.kind
	switch l.kind {
	case election:
		holds, hold = "leads", "lead"
	case schedule:
		holds, hold = "drives it", "drive it"
	case semaphore:
		kind = fmt.Sprintf("%s, %d of %d permits taken", kind, l.taken(), l.size)
	}
	if len(l.holders)+len(l.waiting) == 0 {
		return l.name + ": free"
	}
	says := holds
	if len(l.holders) != 1 {
		says = hold
	}
	text := fmt.Sprintf("%s: %s; %d %s", l.name, kind, len(l.holders), says)
	switch n := len(l.waiting); n {
	case 0:
	case 1:
		text += ", 1 waits"
	default:
		text += fmt.Sprintf(", %d wait", n)
	}
	return text
}

// by is who a place belongs to, in a few words.
func (p *place) by() string {
	switch {
	case p.foreign && p.Lease == 0:
		return "a key without a lease, which stays until it is deleted"
	case p.foreign:
		return "a key of unknown form"
	case p.described:
		return p.owner.String()
	case len(p.Value) > 0:
		return string(p.Value)
	case !p.numbered:
		return otherClient
	}
	return ""
}

// id tells places apart, also of one key that was put again.
func (p *place) id() string { return fmt.Sprintf("%s@%d", p.Key, p.CreateRevision) }

// lease is that of a place.
func (p *place) lease() clientv3.LeaseID { return clientv3.LeaseID(p.Lease) }

// placeJSON is a place.
type placeJSON struct {
	Key     string    `json:"key"`
	Token   int64     `json:"token"`
	Lease   string    `json:"lease,omitempty"`
	Holds   bool      `json:"holds"`
	Takes   string    `json:"takes"` // all, reads or permits
	Weight  int       `json:"weight,omitempty"`
	Size    int       `json:"size,omitempty"`
	Slot    *int      `json:"slot,omitempty"`
	Who     string    `json:"who,omitempty"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Trace   string    `json:"trace,omitempty"`
	Other   bool      `json:"otherClient,omitempty"` // it came by etcdctl, the concurrency package or the server's services
	Foreign bool      `json:"unknownForm,omitempty"`
	cli.Value
	Granted *float64 `json:"grantedSeconds,omitempty"`
	Left    *float64 `json:"leftSeconds,omitempty"`
}

func (p *place) facts(known map[clientv3.LeaseID]leases.Lease) placeJSON {
	o := placeJSON{
		Key: string(p.Key), Token: p.CreateRevision, Holds: p.Owns, Takes: sharesOf(p.Share), Who: p.Who, Host: p.Host, PID: p.PID, Since: p.Since,
		Trace: p.Trace, Other: !p.numbered && !p.foreign, Foreign: p.foreign,
	}
	if p.Lease != 0 {
		o.Lease = leases.Hex(p.lease())
	}
	if p.Share.Size > 0 {
		o.Weight, o.Size = p.Share.Weight, p.Share.Size
	}
	if p.Slot >= 0 {
		o.Slot = &p.Slot
	}
	if !p.described && len(p.Value) > 0 {
		o.Value = cli.ValueOf(p.KeyValue.Value)
	}
	if l, ok := known[p.lease()]; ok && !l.Gone && l.Granted > 0 {
		granted, left := l.Granted.Seconds(), l.Left.Seconds()
		o.Granted, o.Left = &granted, &left
	}
	return o
}

// lineJSON is a line.
type lineJSON struct {
	Name     string      `json:"name"`
	Time     time.Time   `json:"time,omitzero"` // of a watch
	Revision int64       `json:"revision,omitempty"`
	Kind     string      `json:"kind,omitempty"`
	Size     int         `json:"size,omitempty"`
	Holders  []placeJSON `json:"holders"`
	Waiting  []placeJSON `json:"waiting"`
}

func (l *line) facts(known map[clientv3.LeaseID]leases.Lease) lineJSON {
	o := lineJSON{Name: l.name, Kind: l.kind, Size: l.size, Holders: []placeJSON{}, Waiting: []placeJSON{}}
	if len(l.holders)+len(l.waiting) == 0 {
		o.Kind = ""
	}
	for _, p := range l.holders {
		o.Holders = append(o.Holders, p.facts(known))
	}
	for _, p := range l.waiting {
		o.Waiting = append(o.Waiting, p.facts(known))
	}
	return o
}
