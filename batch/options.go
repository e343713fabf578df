package batch

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/retry"
)

// Defaults of the Options' zero fields.
const (
	defaultMaxOps      = 128                 // etcd's --max-txn-ops
	defaultMaxBytes    = 3<<19 - requestRoom // etcd's --max-request-bytes, 1.5 MiB
	defaultInterval    = 2 * time.Millisecond
	defaultInFlight    = 8
	defaultMaxBuffered = 16 << 20
)

// requestRoom is what a request holds beside its transaction: the header that a member puts before it, with the user's
// name; and what a namespace adds to a single key.
const requestRoom = 4 << 10

// The part of the retry policy that is not package retry's. Here an attempt that was given up too early costs an
// operation its fate, and nobody waits for one call: a transaction is refused for as long as an election takes, and then
// goes through.
const (
	defaultAttemptTimeout     = 10 * time.Second // etcd itself gives up after 7 s
	defaultSoleAttemptTimeout = 3 * time.Second  // another one follows, to another endpoint
	defaultMaxWait            = time.Second
)

// Options of a Writer. The zero value, and a nil *Options, mean the defaults.
type Options struct {
	// MaxOps is how many operations a transaction has at most. Default 128, which is etcd's own limit unless it was
	// started with another --max-txn-ops.
	MaxOps int

	// MaxBytes is how large a transaction may be as it is sent, keys, values and encoding, and thus also a single
	// operation. Default 1.5 MiB less 4 KiB: etcd's own limit (--max-request-bytes) is for the whole request.
	MaxBytes int

	// Interval is how long an operation waits for company at most, counted from when it could be sent. Default 2 ms, about
	// what a commit takes: it at most doubles the time until a lonely operation is in etcd. Negative means that
	// nothing waits: whatever comes while InFlight transactions are under way is company enough.
	Interval time.Duration

	// InFlight is how many transactions are under way at most. Default 8: measured, more of them write hardly more, and
	// fewer fates are unknown when a connection breaks.
	InFlight int

	// MaxBuffered is how many bytes the operations without a fate may take, those in flight included, each counted with
	// 256 bytes of its own. Put and Delete wait while there is no room. Default 16 MiB, or room for one operation of
	// MaxBytes if that is more; it must not be less.
	MaxBuffered int

	// Lease is what every key that is put is bound to. Default none. Once it is gone, puts are refused with
	// rpctypes.ErrLeaseNotFound, and nothing is written.
	Lease clientv3.LeaseID

	// Sole says that nobody else writes the keys that this Writer writes. Then a transaction whose answer was lost is sent
	// again, until it is answered or Retry gives up: doing it twice leaves what doing it once does.
	//
	// It leaves one gap. A copy that was held up on the way may be carried out after a later operation on the same key
	// was applied, and undo it. A key that is written once, or not again within minutes, is safe from that.
	Sole bool

	// Retry says how a transaction is tried again that was certainly not applied, or, if Sole, may have been. Three defaults
	// are not those of package retry: MaxAttempts is none, Max is 1 s, and AttemptTimeout is 10 s, or 3 s if Sole; so
	// MaxElapsed, 10 s, decides when an operation is given up. Retryable must not be set: that is what Sole says.
	Retry retry.Policy
}

// Validate returns an error that names the rule that an option breaks, as New would.
func (o *Options) Validate() error {
	_, err := o.resolve()
	return err
}

// resolve fills in the defaults.
func (o *Options) resolve() (Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	for _, f := range [...]struct {
		name  string
		value *int
		def   int
	}{
		{"MaxOps", &d.MaxOps, defaultMaxOps},
		{"MaxBytes", &d.MaxBytes, defaultMaxBytes},
		{"InFlight", &d.InFlight, defaultInFlight},
		{"MaxBuffered", &d.MaxBuffered, 0}, // it depends on MaxBytes
	} {
		if *f.value < 0 {
			return d, fmt.Errorf("batch: Options.%s must be at least 1, not %d", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	switch least := d.MaxBytes + writeCost; {
	case d.MaxBuffered == 0:
		d.MaxBuffered = max(defaultMaxBuffered, least)
	case d.MaxBuffered < least:
		return d, fmt.Errorf("batch: Options.MaxBuffered must be at least %d, not %d: room for one operation of MaxBytes",
			least, d.MaxBuffered)
	}
	if d.Interval == 0 {
		d.Interval = defaultInterval
	}
	d.Interval = max(d.Interval, 0)

	if d.Retry.Retryable != nil {
		return d, fmt.Errorf("batch: Options.Retry.Retryable must not be set: Sole decides what is tried again")
	}
	if err := d.Retry.Validate(); err != nil {
		return d, fmt.Errorf("batch: Options.Retry: %w", err)
	}
	d.Retry = patient(d.Retry, d.Sole)
	return d, nil
}

// patient is p with the defaults of a Writer. A default gives way to a field that is set.
func patient(p retry.Policy, sole bool) retry.Policy {
	p.Retryable = retry.Transient
	timeout := defaultAttemptTimeout
	if sole {
		p.Retryable = retry.Idempotent
		timeout = defaultSoleAttemptTimeout
	}
	if p.MaxAttempts == 0 {
		p.MaxAttempts = -1
	}
	if p.Max == 0 {
		p.Max = max(defaultMaxWait, p.Initial)
	}
	if p.AttemptTimeout == 0 {
		p.AttemptTimeout = timeout
		if p.ReadTimeout > 0 {
			p.AttemptTimeout = min(timeout, p.ReadTimeout)
		}
	}
	return p
}
