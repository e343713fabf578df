package demo

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// noExpiry is the time within which a lease cannot have expired of a process that was alive: it had been renewed within a
// third of its TTL.
const noExpiry = orders.TTL - orders.TTL/3

// departure is how one process stopped.
type departure struct {
	id    string
	pid   int
	asked time.Time            // when it was sent SIGTERM
	exit  error                // nil for code 0
	keys  map[string]time.Time // those that it had in etcd then, and later; and when they were deleted
	shown time.Time            // when a view no longer had it
}

// farewell is the evidence that processes which were told to stop have left nothing to wait for.
type farewell struct {
	departures []departure
	leader     string  // the one of them that led
	token      int64   // of its term, as etcd has it
	reigns     []reign // of the election
}

// with adds what is known of the keys, of the view and of the election.
func (f farewell) with(e evidence) farewell {
	f.reigns = e.writes.reigns(orders.LeaderName)
	f.departures = slices.Clone(f.departures)
	for i := range f.departures {
		d := &f.departures[i]
		d.keys = keysOf(e.writes, d.id, d.pid, d.asked)
		shown, _ := e.heard(func(s said) bool {
			return s.id == you && s.Kind == orders.Peers && s.at.After(d.asked) && !slices.Contains(s.IDs, d.id)
		})
		d.shown = shown.at
	}
	return f
}

// check holds if every process has exited in order, its keys were deleted before any lease could have expired, a view has
// shown it, and the leader was followed as soon.
func (f farewell) check() (string, error) {
	var slowest, followed time.Duration
	for _, d := range f.departures {
		if d.exit != nil {
			return broken("%s: %v", d.id, d.exit)
		}
		if len(d.keys) == 0 {
			return broken("%s had no key in etcd", d.id)
		}
		for key, gone := range d.keys {
			if gone.IsZero() {
				return broken("%s has left %s behind", d.id, kind(key))
			}
			if took := gone.Sub(d.asked); took >= noExpiry {
				return broken("%s of %s went after %s: with its lease, perhaps", kind(key), d.id, screen.Duration(took))
			}
		}
		took := d.shown.Sub(d.asked)
		if d.shown.IsZero() || took >= noExpiry {
			return broken("the view has not shown the end of %s in time", d.id)
		}
		slowest = max(slowest, took)
		if d.id == f.leader {
			next := after(f.reigns, f.token)
			if next == nil || next.since.Sub(d.asked) >= noExpiry {
				return broken("nobody has followed %s in time", d.id)
			}
			followed = next.since.Sub(d.asked)
		}
	}
	if followed == 0 {
		return broken("no leader was stopped")
	}
	return fmt.Sprintf("view in %s, next leader in %s",
		screen.Duration(slowest), screen.Duration(followed)), nil
}

// keysOf returns the keys that a process of the service had at a time or later: its registration, its candidacies, its
// places in the lock's line. With each comes when it was deleted, or the zero time.
func keysOf(writes history, id string, pid int, since time.Time) map[string]time.Time {
	keys := map[string]time.Time{}
	for _, w := range writes {
		if w.deleted {
			if _, own := keys[w.key]; own && w.at.Before(since) {
				delete(keys, w.key)
			} else if own {
				keys[w.key] = w.at
			}
			continue
		}
		var place struct{ PID int }
		switch {
		case w.key == registryPrefix+id:
		case strings.HasPrefix(w.key, orders.LeaderName+"/") && w.value == id:
		case strings.HasPrefix(w.key, orders.LockName+"/") && json.Unmarshal([]byte(w.value), &place) == nil && place.PID == pid:
		default:
			continue
		}
		keys[w.key] = time.Time{}
	}
	return keys
}

// kind says what a key is for.
func kind(key string) string {
	switch {
	case strings.HasPrefix(key, registryPrefix):
		return "the registration"
	case strings.HasPrefix(key, orders.LeaderName+"/"):
		return "the candidacy"
	case strings.HasPrefix(key, orders.LockName+"/"):
		return "the place in the lock's line"
	}
	return key
}
