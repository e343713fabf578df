package config

import "time"

// Identity makes a Value one of the instances that rollouts know: it reports what it runs, and runs a rollout's value when it is
// its turn. The zero Identity takes no part.
type Identity struct {
	// ID tells the instance from the others that read the key, and is the same after a restart: the name of a pod that keeps its
	// name, or host and port. One segment, without a slash.
	ID string

	// Labels are what steps of a rollout ask for: zone, tier, version.
	Labels map[string]string

	// TTL of the lease under which it reports: how long it takes until the death of the instance is noticed. Default 10 s,
	// at least 2 s.
	TTL time.Duration
}
