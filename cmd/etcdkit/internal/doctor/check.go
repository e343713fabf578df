package doctor

import (
	"context"
	"time"
)

// check is one of the eight things to verify before going live. It reads only, unless the patient lets it write, and reports an error of
// its own as a finding: an error of etcd to a user that may not look is Skipped, with the permission that is missing.
type check struct {
	number int
	name   string        // one word, for --only
	title  string        // for people
	within time.Duration // how long run may take: its context ends then
	blind  bool          // run can do without Patient.Client; if not, and there is none, all of it is Skipped
	run    func(ctx context.Context, p *Patient) []Finding
}

// checks are all, in the order in which they are made and printed.
var checks = []check{
	{1, "tls", "Encryption and certificates", 30 * time.Second, true, checkTLS},
	{2, "auth", "Authentication and roles", 30 * time.Second, false, checkAuth},
	{3, "topology", "Members and versions", 30 * time.Second, false, checkTopology},
	{4, "health", "Health and failover", 30 * time.Second, true, checkHealth},
	{5, "persistence", "Backups, size and history", 10 * time.Minute, false, checkPersistence},
	{6, "latency", "Latency and heartbeats", time.Minute, false, checkLatency},
	{7, "client", "The client's timeouts and retries", time.Minute, true, checkClient},
	{8, "monitoring", "Metrics, keys and leases", 2 * time.Minute, false, checkMonitoring},
}
