package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/session"
)

var (
	errNoNames  = errors.New("lock: no names: there is nothing to hold")
	errSameName = errors.New("given twice, and locks are not reentrant")
)

// Multi is several locks that are held together: as with [Mutex], names and where sessions come from, without state.
//
// They are locked one after the other, in an order that is the same for every Multi; so no two of them wait for each other.
// Whoever locks some of the names one by one, in an order of his own, may. While a Multi waits it stands in line, or is first,
// at the names before: others wait for those meanwhile.
type Multi struct {
	source session.Source
	names  []string
}

// NewMulti returns the locks of some names, held together, through one session of source. It does no I/O. There must be
// a name, and none of them twice: the methods say so.
func NewMulti(source session.Source, names ...string) Multi {
	return Multi{source: source, names: slices.Clone(names)}
}

// MultiHeld is one acquisition of several locks. It is safe for concurrent use.
type MultiHeld struct {
	held []*Held // by the order of the names as they were given
	ctx  context.Context
	end  context.CancelFunc // of ctx, without a loss
}

// Do runs fn while holding all the locks, as [Mutex.Do] does with one. guards are in the order of the names. What is to
// be written under all of them goes through each: guards[0].KV(guards[1].KV(kv)).
func (m Multi) Do(ctx context.Context, fn func(ctx context.Context, guards []fence.Guard) error) (err error) {
	held, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	work, cancel := over(ctx, held.held)
	// Deferred, so that a panic in fn gives the locks back too.
	defer func() {
		cancel()
		err = errors.Join(err, held.Unlock(ctx))
	}()
	return fn(work, held.Guards())
}

// Lock waits until it holds all the locks, and otherwise holds none. ctx bounds the wait, as with [Mutex.Lock].
//
// Its errors are those of [Mutex.Lock], with the name; [fence.ErrLost] also if one of the locks was lost while it waited for
// another.
func (m Multi) Lock(ctx context.Context) (*MultiHeld, error) {
	return m.acquire(ctx, Mutex.Lock)
}

// TryLock holds all the locks if nobody holds any of them or waits for one, and returns [ErrLocked] otherwise. It asks etcd
// once a name and leaves nothing behind.
func (m Multi) TryLock(ctx context.Context) (*MultiHeld, error) {
	return m.acquire(ctx, Mutex.TryLock)
}

// acquire locks one after the other, in the order that all share.
func (m Multi) acquire(ctx context.Context, lock func(Mutex, context.Context) (*Held, error)) (*MultiHeld, error) {
	order, err := m.order()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lock: %w", context.Cause(ctx))
	}
	asking := mutex.measure(ctx)
	sess, err := m.source.Live(ctx)
	if err != nil {
		asking.answered(ctx, nil, err) // for the first name; from here on each is measured by itself
		return nil, fmt.Errorf("lock: %w", err)
	}
	h := &MultiHeld{held: make([]*Held, len(m.names))}
	err = m.rest(ctx, order, h, func(ctx context.Context, name string) (*Held, error) { return lock(NewMutex(sess, name), ctx) })
	if err != nil {
		// Whoever waits for them can go on; what became of them says nothing about why there is no lock.
		_ = h.Unlock(ctx)
		return nil, err
	}
	h.ctx, h.end = over(h.held[0].Context(), h.held)
	return h, nil
}

// rest takes those that are left, one after the other, for as long as ctx lasts and those taken before are held.
func (m Multi) rest(ctx context.Context, left []int, h *MultiHeld, take func(context.Context, string) (*Held, error)) error {
	if len(left) == 0 {
		return nil
	}
	one, err := take(ctx, m.names[left[0]])
	if err != nil {
		return err
	}
	h.held[left[0]] = one
	waiting, cancel := one.hold.Work(ctx)
	defer cancel()
	return m.rest(waiting, left[1:], h, take)
}

// order is the indices of the names in the order in which all lock.
func (m Multi) order() ([]int, error) {
	if len(m.names) == 0 {
		return nil, errNoNames
	}
	order := make([]int, len(m.names))
	for i, name := range m.names {
		if err := names.Opaque("lock", name); err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(m.names[a], m.names[b]) })
	for i := range order[1:] {
		if name := m.names[order[i]]; name == m.names[order[i+1]] {
			return nil, fmt.Errorf("lock %q: %w", name, errSameName)
		}
	}
	return order, nil
}

// over returns ctx, ended also with each of the locks and by its cause.
func over(ctx context.Context, held []*Held) (context.Context, context.CancelFunc) {
	if len(held) == 0 {
		return ctx, func() {}
	}
	first, endFirst := held[0].hold.Work(ctx)
	all, endRest := over(first, held[1:])
	return all, func() { endRest(); endFirst() }
}

// Context ends when any of the locks is no longer held. Its cause is [fence.ErrLost], with the reason, unless Unlock ended
// it.
func (h *MultiHeld) Context() context.Context { return h.ctx }

// Guards prove the acquisition, one for each name, in the order of the names.
func (h *MultiHeld) Guards() []fence.Guard {
	guards := make([]fence.Guard, len(h.held))
	for i, one := range h.held {
		guards[i] = one.Guard()
	}
	return guards
}

// Unlock gives all the locks back, side by side, as [Held.Unlock] does with one. Its errors are joined.
func (h *MultiHeld) Unlock(ctx context.Context) error {
	errs := make([]error, len(h.held))
	var all sync.WaitGroup
	for i, one := range h.held {
		if one != nil { // it was not reached
			all.Go(func() { errs[i] = one.Unlock(ctx) })
		}
	}
	all.Wait()
	if h.end != nil {
		h.end()
	}
	return errors.Join(errs...)
}
