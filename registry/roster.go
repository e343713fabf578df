package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// maxReported is how many malformed instances an error names; of the others it gives the number.
const maxReported = 10

// published is what readers of a view get.
type published struct {
	Snapshot       // SyncedAt is filled in when it is read
	skipped  error // names the malformed instances; nil if there are none
}

// roster observes the keys of a service and publishes its instances. Its methods run in the follower's goroutine,
// one at a time.
type roster struct {
	service string
	prefix  string
	log     *zap.Logger

	cell   *latest.Cell[published]
	synced chan struct{} // closed once it has been live

	// ---- owned by the follower's goroutine
	next      published        // with all that was taken in
	source    Source           // 0 before the first sync
	behind    bool             // next is not published yet
	malformed map[string]error // by ID, those that are not listed
	recount   bool             // next.skipped is not of these
}

func newRoster(service, prefix string, log *zap.Logger) *roster {
	return &roster{
		service:   service,
		prefix:    prefix,
		log:       log,
		cell:      latest.New(published{}),
		synced:    make(chan struct{}),
		malformed: map[string]error{},
	}
}

// Changed takes in a step of the follower. While the roster is not live the next call is Live or Stale, and that
// publishes: so readers see what was missed in one step with its end.
func (r *roster) Changed(c follow.Change) {
	edits := r.edits(c.Events)
	if len(edits) > 0 || c.Initial || c.Generation != r.next.Generation { // else keys below other keys, or nothing
		r.next.Instances = merge(r.next.Instances, edits)
		if r.recount {
			r.next.skipped, r.recount = r.skipped(), false
		}
		r.behind = true
	}
	r.next.Revision, r.next.Generation = c.Revision, c.Generation
	if r.source == Live && r.behind {
		r.publish()
	}
}

// Live publishes what was missed.
func (r *roster) Live() {
	if r.source == Stale {
		r.log.Info("instances are live again", zap.Int("instances", len(r.next.Instances)))
	}
	r.become(Live)
	select {
	case <-r.synced:
	default:
		close(r.synced)
	}
}

// Stale keeps the last instances known, and says that they are.
func (r *roster) Stale(err error) {
	if r.source == 0 && !r.behind {
		return // nothing is known yet
	}
	if r.source != Stale {
		r.log.Warn("instances are stale", zap.Error(err), zap.Int("instances", len(r.next.Instances)))
	}
	r.become(Stale)
}

func (r *roster) become(s Source) {
	if r.source == s && !r.behind {
		return
	}
	r.source = s
	r.publish()
}

func (r *roster) publish() {
	r.behind = false
	r.next.Source = r.source
	r.cell.Set(r.next)
}

// edits decodes what changed: the newest state of each instance, ordered by ID.
func (r *roster) edits(events []follow.Event) []edit {
	newest := make([]follow.Event, 0, len(events))
	for _, ev := range events {
		if !strings.Contains(ev.Key[len(r.prefix):], "/") { // else an instance of a service further below
			newest = append(newest, ev)
		}
	}
	// Stable, so that of several events of one key the last one stays the last.
	slices.SortStableFunc(newest, func(a, b follow.Event) int { return cmp.Compare(a.Key, b.Key) })
	edits := make([]edit, 0, len(newest))
	for i, ev := range newest {
		if i+1 < len(newest) && newest[i+1].Key == ev.Key {
			continue
		}
		edits = append(edits, r.edit(ev))
	}
	return edits
}

// edit decodes what became of one instance.
func (r *roster) edit(ev follow.Event) edit {
	id := ev.Key[len(r.prefix):]
	if _, was := r.malformed[id]; was {
		delete(r.malformed, id)
		r.recount = true
	}
	if ev.New == nil {
		return edit{id: id}
	}
	instance, err := decode(r.service, id, ev.New.Value)
	if err != nil {
		r.malformed[id] = err
		r.recount = true
		r.log.Warn("instance skipped", zap.Error(skipped(id, err)))
		return edit{id: id}
	}
	return edit{id: id, instance: instance}
}

// skipped is the error about all malformed instances.
func (r *roster) skipped() error {
	if len(r.malformed) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(r.malformed))
	var errs []error
	for _, id := range ids[:min(len(ids), maxReported)] {
		errs = append(errs, skipped(id, r.malformed[id]))
	}
	if more := len(ids) - maxReported; more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more", ErrMalformed, more))
	}
	return errors.Join(errs...)
}

// skipped is the error about one.
func skipped(id string, err error) error {
	if len(id) > maxID {
		id = id[:maxID]
	}
	return fmt.Errorf("%w: %q: %w", ErrMalformed, id, err)
}
