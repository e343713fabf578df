package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/propagation"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/internal/turn"
)

// Owner is one that holds a lock or waits for it, as it describes itself. The fields from Who to Trace are empty for
// those who came through other programs, like etcdctl.
type Owner struct {
	Key   string           // the place in line
	Token fence.Token      // what its guard has, or will have
	Lease clientv3.LeaseID // the session, of which several places may be

	Holds  bool // it holds; otherwise it waits
	Weight int  // how many permits of a semaphore it takes, and how many there are;
	Size   int  // both 0 for who takes all
	Reads  bool // it is a reader of an RWMutex
	Slot   int  // its slot, -1 if it has claimed none

	Who   string    // name of the program
	Host  string    // where it runs
	PID   int       // as which process
	Since time.Time // when it came into line, by its own clock
	Trace string    // the trace that it came with, in the form of a W3C traceparent
}

// Inspect returns who holds the lock, whichever kind it is, and then who waits, in order; nobody if the lock is free. It is for
// people and tools: the answer may be old when it arrives, and nothing should be decided by it. ctx bounds it.
func Inspect(ctx context.Context, client *clientv3.Client, name string) ([]Owner, error) {
	if err := names.Opaque("lock", name); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	line, err := turn.Inspect(ctx, client, turn.Prefix(name))
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	owners := make([]Owner, len(line))
	for i, s := range line {
		o := decodeOwner(s.Value)
		owners[i] = Owner{
			Key:   string(s.Key),
			Token: fence.Token(s.CreateRevision),
			Lease: clientv3.LeaseID(s.Lease),
			Holds: s.Owns,
			Slot:  s.Slot,
			Who:   o.Who,
			Host:  o.Host,
			PID:   o.PID,
			Since: o.Since,
			Trace: o.Trace,
		}
		if owners[i].Reads = s.Share.Size == turn.Unlimited; !owners[i].Reads {
			owners[i].Weight, owners[i].Size = s.Share.Weight, s.Share.Size
		}
	}
	return owners, nil
}

// owner is the value of a place in line: whoever finds the lock held wants to know by whom.
type owner struct {
	Who   string    `json:"who,omitempty"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Trace string    `json:"trace,omitempty"`
}

// program is what does not change about this process.
var program = sync.OnceValue(func() owner {
	host, _ := os.Hostname() // a description without it is better than none
	return owner{Who: filepath.Base(os.Args[0]), Host: host, PID: os.Getpid()}
})

// newOwner describes this process as of now, and the trace that ctx belongs to.
func newOwner(ctx context.Context) owner {
	o := program()
	o.Since = time.Now().Round(time.Millisecond).UTC()
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	o.Trace = carrier["traceparent"]
	return o
}

func (o owner) encode() string {
	value, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings, a number and a time of this century
	}
	return string(value)
}

// decodeOwner reads a place's value. What is not ours describes nobody.
func decodeOwner(value []byte) (o owner) {
	if json.Unmarshal(value, &o) != nil {
		return owner{}
	}
	return o
}
