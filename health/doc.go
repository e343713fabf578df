// Package health answers the probes of an orchestrator: HTTP handlers that say whether a process should be given work, and
// whether it should be restarted.
//
// # Model
//
// Everything of etcdkit that goes on in the background has an Err that is nil while all is well: a [Checker].
//
//	http.Handle("/readyz", health.Readiness(map[string]health.Checker{
//		"announced": health.Only(registration, registry.ErrUnhealthy, registry.ErrReplaced),
//		"limits":    health.Only(limits, config.ErrAbsent, config.ErrClosed),
//	}))
//	http.Handle("/livez", health.Liveness(map[string]health.Fatal{
//		"mail":    health.FatalIf(mail, registry.ErrClosed),
//		"leading": health.FatalFunc(leadership.Check), // an election.Health
//	}))
//
// [Readiness] is about now: any error of any of its checks takes the process out, and it is back when there is none.
//
// [Liveness] is about what a restart would mend. Views, values and registrations repair themselves, and an outage of etcd
// is no reason to restart anything: a fleet that is restarted because of it has lost the last good values that it held, and
// cannot get others. So Liveness does not take a Checker, but a [Fatal]: one that says which of its errors are for good. Those
// are that something was closed that the process cannot do without, and work that goes on long after its owner has lost
// what entitled it to that (Check of an election.Health).
//
// # What belongs into readiness
//
// Less than it seems. Whatever fails everywhere at the same time takes all processes out at the same time, and then nobody
// serves at all, though each could have done so with what it knows:
//
//   - A view or a value that is stale because etcd is away is so in the whole fleet, and still has the last good state. Leave
//     ErrNotCurrent out, unless serving from a state that may be old is worse than not serving.
//   - One malformed instance (registry.ErrMalformed), or one bad document (config.ErrRefused), which anybody may have written,
//     is reported to all that read it. It should wake somebody up, and take nobody out.
//
// [Only] makes that choice.
//
// # Limits
//
// The answers show names and error texts to whoever may ask: errors of etcdkit hold keys, addresses and rules, and neither
// values nor credentials; those of your own checks are yours. Serve them where the orchestrator is, and not to the world.
package health
