package follow

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.opentelemetry.io/otel/attribute"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// Recipe is what follows. The instruments tell recipes apart, and nothing else depends on it: recipes share views. What follows without
// one, as tests do, is not reported.
type Recipe uint8

const (
	// Registry is the recipe of package registry.
	Registry Recipe = iota + 1

	// Config is that of package config.
	Config

	// Queue is that of package queue, but for the lines it stands in.
	Queue

	// Lock is that of places in line: of locks, of candidates, and of whatever else takes turns.
	Lock

	// Election is that of observers of an election.
	Election
)

// recipes are their names, which are a contract.
var recipes = [...]string{Registry: "registry", Config: "config", Queue: "queue", Lock: "lock", Election: "election"}

// For is the same range, followed by a recipe.
func (r Range) For(recipe Recipe) Range {
	r.recipe = recipe
	return r
}

// users are how many followers of each recipe a view has.
type users [len(recipes)]int

// Reasons of a resync.
const (
	opened      = "opened"      // the first read
	compacted   = "compacted"   // what was to come next is no longer in etcd's history
	interrupted = "interrupted" // the watch ended or was given up, or what it brought was not what etcd has
	restored    = "restored"    // etcd's history is another than the one known
)

var (
	scope   = telemetry.For("internal/follow")
	resyncs = scope.Counter("etcdkit.follow.resyncs", "{resync}", "Reads of everything that is followed.")
	_       = scope.Observe("etcdkit.follow.lag", "s", "For how long the follower that is furthest behind cannot say that it is current; 0 if all can.", observeLag)
)

// countResync reports a read of everything.
func (v *view) countResync(reason string) {
	ctx := context.Background()
	if !resyncs.Enabled(ctx) {
		return
	}
	hubs.Lock()
	by := v.users
	hubs.Unlock()
	for recipe, n := range by {
		if n > 0 && recipe > 0 {
			resyncs.Add(ctx, 1, telemetry.Attributes(recipeKey.String(recipes[recipe]), telemetry.Reason.String(reason)))
		}
	}
}

// recipeKey is the attribute that names the recipe.
const recipeKey = attribute.Key("etcdkit.recipe")

// reason is why a view is read again, which has been read before.
func (v *view) reason(replaced bool) string {
	switch {
	case replaced:
		return restored
	case errors.Is(v.ended, rpctypes.ErrCompacted):
		return compacted
	}
	return interrupted
}

// observeLag reports the lag of all views of the process, by recipe.
func observeLag(_ context.Context, put telemetry.Put) {
	for recipe, lag := range lags(time.Now()) {
		put(lag.Seconds(), telemetry.Attributes(recipeKey.String(recipes[recipe])))
	}
}

// lags are the largest lags of each recipe that follows anything.
func lags(now time.Time) map[Recipe]time.Duration {
	hubs.Lock()
	defer hubs.Unlock()
	most := map[Recipe]time.Duration{}
	for _, h := range hubs.of {
		for _, v := range h.views {
			lag := v.pulse.lag(now, v.since)
			for recipe, n := range v.users {
				if n > 0 && recipe > 0 {
					most[Recipe(recipe)] = max(most[Recipe(recipe)], lag)
				}
			}
		}
	}
	return most
}
