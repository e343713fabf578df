package queue

import (
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/names"
)

// MaxMessage is how large an encoded message of a [Topic] may be.
const MaxMessage = 256 << 10

// ErrMessageTooLarge refuses a message that is larger than [MaxMessage]. Nothing was sent.
var ErrMessageTooLarge = errors.New("queue: message too large")

// defaultKeepMessages is how many messages a topic keeps by default.
const defaultKeepMessages = 10_000

// TopicOptions of a Topic. The zero value, and a nil *TopicOptions, mean the defaults. All who use a topic should agree on Codec, and
// all who publish on how much is kept: who keeps least decides.
type TopicOptions[T any] struct {
	// Codec says what a message's bytes are. Default codec.JSON[T]().
	Codec codec.Codec[T]

	// KeepMessages is how many of the newest messages are kept at least, if they are not too old for KeepFor. Messages go by
	// segments of a few hundred, so there are more at most times. Default 10,000; negative means all.
	KeepMessages int

	// KeepFor is how long messages are kept at least, if there are not too many for KeepMessages. They go when somebody publishes, after an
	// eighth of KeepFor more at the latest, by the clocks of those who publish. Default for as long as KeepMessages says; it must not be negative.
	KeepFor time.Duration

	// Logger is told when messages cannot be trimmed, never of a message. Default none.
	Logger *zap.Logger
}

// Topic is a log of small messages in etcd: each subscriber gets all of them, in one order, from where it likes. It is safe for
// concurrent use, keeps little, and need not be closed.
//
//	t := queue.NewTopic[Price](client, "prices", nil)
//	position, err := t.Publish(ctx, Price{…})
//
//	for m, err := range t.Subscribe(ctx, remembered) {
//
// # Promise
//
//   - The order is that of etcd's commits, the same for all subscribers, and that of each publisher's calls.
//   - A subscriber gets each message after its position once, whatever happens to connections and members, and how slow it is: it holds
//     a few megabytes at most, and reads again what did not fit.
//   - What was trimmed before it was read, or taken back by a restored backup, is reported as a [GapError], never silent.
//
// # Limits
//
// A message is written to the disk of every member and sent to each subscriber by etcd: this is for some hundreds of small messages a second
// beside what etcd is there for, and tens of subscribers. They are kept by count and age (TopicOptions), by those who publish, and nobody
// acknowledges them: a subscriber that is to go on where it was stores Message.Position with what it made of the message.
//
// A restored backup that holds all that a subscriber has had, and is in place before the subscriber has heard of more, is no gap to it:
// what it never heard of is not missed.
type Topic[T any] struct {
	client   *clientv3.Client
	name     string
	keys     topicLayout
	opts     TopicOptions[T]
	log      *zap.Logger
	invalid  error // of the arguments of NewTopic, returned by every method
	producer *producer

	tidying sync.Mutex // held by who closes a segment and trims

	mu      sync.Mutex   // guards all below
	segment topicSegment // that was current when etcd was asked last; the zero segment if it was not
	bytes   int          // that were published into it from here
}

// NewTopic returns the topic of a name, which is a path: not empty, without a slash at its end, "..", empty inner segments and control
// characters. It does no I/O; an error of its arguments is returned by every method.
func NewTopic[T any](client *clientv3.Client, name string, opts *TopicOptions[T]) *Topic[T] {
	t := &Topic[T]{client: client, name: name, keys: topicLayoutOf(name), producer: newProducer()}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.Codec == nil {
		t.opts.Codec = codec.JSON[T]()
	}
	if t.opts.KeepMessages == 0 {
		t.opts.KeepMessages = defaultKeepMessages
	}
	t.log = t.opts.Logger
	if t.log == nil {
		t.log = zap.NewNop()
	}
	t.log = t.log.With(zap.String("topic", name))
	if err := names.Path("topic", name); err != nil {
		t.invalid = fmt.Errorf("queue: %w", err)
	} else if t.opts.KeepFor < 0 {
		t.invalid = fmt.Errorf("topic %q: TopicOptions.KeepFor must not be negative, but is %v", name, t.opts.KeepFor)
	}
	return t
}

// Name is the topic's name.
func (t *Topic[T]) Name() string { return t.name }

// Message is one that was published.
type Message[T any] struct {
	Position  Position // to subscribe from, for those after it
	Item      T
	Raw       []byte    // as it is in etcd; shared, not to be written to
	Published time.Time // by the publisher's clock
}

// GapError says that messages are missing from a stream, which goes on after it.
type GapError struct {
	// From is where the subscriber was: what it has had, or asked for, ends there.
	From Position

	// To is where the stream goes on: after it.
	To Position

	// Replaced says that etcd's history is not the one that From is of: a backup was restored, or the topic was deleted. If From is not in
	// the history of now, the stream goes on with the oldest message that is kept, and some may come a second time. Else messages were
	// trimmed before they were read.
	Replaced bool
}

// Error describes the gap.
func (e *GapError) Error() string {
	if e.Replaced {
		return fmt.Sprintf("queue: gap in a topic after %q: etcd's history was replaced; the stream goes on after %q", e.From, e.To)
	}
	return fmt.Sprintf("queue: gap in a topic: the messages after %q up to %q were trimmed", e.From, e.To)
}

// DecodeError says that a message cannot be decoded. The stream goes on after it.
type DecodeError struct {
	Position Position
	Err      error // of the codec
}

// Error names the message by its position.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("queue: the message of a topic at %q cannot be decoded: %v", e.Position, e.Err)
}

// Unwrap returns the codec's error.
func (e *DecodeError) Unwrap() error { return e.Err }
