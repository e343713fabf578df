package queue

import (
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/names"
)

// Defaults of the Options' zero fields.
const (
	defaultMaxAttempts = 10
	defaultDedupFor    = 5 * time.Minute
)

// MaxItem is how large an encoded item may be: etcd takes 1.5 MiB a request, and the rest is for what goes with it.
const MaxItem = 3<<19 - 16<<10

var (
	// ErrFull refuses a push into a queue of Options.MaxDepth jobs. Nothing was written.
	ErrFull = errors.New("queue: full")

	// ErrTooLarge refuses an item that is larger than [MaxItem]. Nothing was sent.
	ErrTooLarge = errors.New("queue: item too large")

	// ErrUnknown goes with [fence.ErrLost] if an acknowledgement's reply was lost and the claim with it: what it asked for may have been done.
	ErrUnknown = errors.New("queue: outcome unknown")

	// ErrUnknownID says that there is no such job, or dead letter.
	ErrUnknownID = errors.New("queue: unknown ID")
)

// Options of a Queue. The zero value, and a nil *Options, mean the defaults. All who use a queue should agree on Codec.
type Options[T any] struct {
	// Codec says what an item's bytes are. Default codec.JSON[T]().
	Codec codec.Codec[T]

	// MaxAttempts is how often a job is delivered before it becomes a dead letter. Default 10; negative means without end.
	MaxAttempts int

	// MaxDepth is how many jobs a queue may hold for this producer to push another: waiting, delayed and in flight. It is
	// approximate by a batch (127 jobs) a producer. Default none.
	MaxDepth int

	// DedupFor is for how long after its push an ID of the caller's own is remembered, also when the job is done. While
	// the job is in the queue it is remembered anyway. Default 5 minutes, rounded up to whole seconds; negative means none.
	DedupFor time.Duration

	// Logger is told of redeliveries, dead letters and lost claims, never of an item. Default none.
	Logger *zap.Logger
}

// Queue is a line of jobs in etcd, seen by who pushes and who works. It is safe for concurrent use, keeps
// little, and need not be closed.
type Queue[T any] struct {
	client   *clientv3.Client
	name     string
	keys     layout
	opts     Options[T]
	log      *zap.Logger
	invalid  error // of the arguments of New, returned by every method
	producer *producer
	slots    *slots
	memory   *memory // of the IDs that are pushed
	depth    *depth
	counted  counted
	measures *measures
}

// New returns the queue of a name, which is a path: not empty, without a slash at its end, "..", empty inner segments and control
// characters. It does no I/O; an error of its arguments is returned by every method.
func New[T any](client *clientv3.Client, name string, opts *Options[T]) *Queue[T] {
	q := &Queue[T]{client: client, name: name, keys: layoutOf(name), producer: newProducer(), measures: newMeasures(name)}
	if opts != nil {
		q.opts = *opts
	}
	if q.opts.Codec == nil {
		q.opts.Codec = codec.JSON[T]()
	}
	if q.opts.MaxAttempts == 0 {
		q.opts.MaxAttempts = defaultMaxAttempts
	}
	if q.opts.DedupFor == 0 {
		q.opts.DedupFor = defaultDedupFor
	}
	q.slots, q.memory, q.depth = newSlots(), newMemory(q.opts.DedupFor), newDepth(q.opts.MaxDepth)
	q.log = q.opts.Logger
	if q.log == nil {
		q.log = zap.NewNop()
	}
	q.log = q.log.With(zap.String("queue", name))
	if err := names.Path("queue", name); err != nil {
		q.invalid = fmt.Errorf("queue: %w", err)
	} else if q.opts.MaxDepth < 0 {
		q.invalid = fmt.Errorf("queue %q: Options.MaxDepth must not be negative, but is %d", name, q.opts.MaxDepth)
	}
	return q
}

// Name is the queue's name.
func (q *Queue[T]) Name() string { return q.name }
