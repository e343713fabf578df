package registry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/etcdkit/etcdkit/internal/telemetry"
)

// Attributes of the instruments.
const (
	serviceAttr = attribute.Key("etcdkit.registry.service")
	stateAttr   = attribute.Key("etcdkit.registry.state")
)

// registrations are those that are announced and not closed.
var registrations telemetry.Live[*Registration]

var (
	scope           = telemetry.For("registry")
	reregistrations = scope.Counter("etcdkit.registry.reregistrations", "{registration}", "Keys put back that had gone.")
	_               = scope.Observe("etcdkit.registry.instances", "{instance}", "What this process's views hold.", observeInstances)
	_               = scope.Observe("etcdkit.registry.registered", "{instance}", "This process's registrations, and whether etcd has them.", observeRegistrations)
)

// countReturn reports that a registration's key is there again.
func countReturn(service string) {
	ctx := context.Background()
	if reregistrations.Enabled(ctx) {
		reregistrations.Add(ctx, 1, telemetry.Attributes(serviceAttr.String(service)))
	}
}

// population is how many instances there are of each state.
type population [len(stateNames)]int

func (p population) sum() (n int) {
	for _, of := range p {
		n += of
	}
	return n
}

// observeInstances reports what the views hold.
func observeInstances(_ context.Context, put telemetry.Put) {
	for service, p := range populations() {
		for state, n := range p {
			put(float64(n), telemetry.Attributes(serviceAttr.String(service), stateAttr.String(State(state).String())))
		}
	}
}

// populations are those of the services that are followed, by name, but for the ones of which nothing is known so far. Several views of
// one service that share no list, as they have other options or another client, mostly list the same instances: the longest list counts.
func populations() map[string]population {
	services.Lock()
	var rosters []*roster
	for _, s := range services.of {
		rosters = append(rosters, s.roster)
	}
	services.Unlock()
	of := map[string]population{}
	for _, r := range rosters {
		now := r.cell.Ptr()
		if now.Source == 0 {
			continue
		}
		var p population
		for _, i := range now.Instances {
			if int(i.State) < len(p) { // a decoder of the user's may say anything
				p[i.State]++
			}
		}
		if known, there := of[r.name]; !there || p.sum() > known.sum() {
			of[r.name] = p
		}
	}
	return of
}

// observeRegistrations reports how many registrations there are, and whether etcd has them as they are wanted.
func observeRegistrations(_ context.Context, put telemetry.Put) {
	type counts struct{ present, missing int }
	of := map[string]counts{}
	for _, r := range registrations.All() {
		c := of[r.service]
		if r.trouble() == nil {
			c.present++
		} else {
			c.missing++
		}
		of[r.service] = c
	}
	for service, c := range of {
		put(float64(c.present), telemetry.Attributes(serviceAttr.String(service), telemetry.Outcome.String("present")))
		put(float64(c.missing), telemetry.Attributes(serviceAttr.String(service), telemetry.Outcome.String("missing")))
	}
}
