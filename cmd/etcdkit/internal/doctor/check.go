package doctor

import "context"

// check is one of the eight things to verify before going live. It reads only, unless the patient lets it write, and reports an error of
// its own as a finding: an error of etcd to a user that may not look is Skipped, with the permission that is missing.
type check struct {
	number int
	name   string // one word, for --only
	title  string // for people
	run    func(ctx context.Context, p *Patient) []Finding
}

// checks are all, in the order in which they are made and printed.
var checks = []check{
	{1, "tls", "Encryption and certificates", checkTLS},
	{2, "auth", "Authentication and roles", checkAuth},
	{3, "topology", "Members and versions", checkTopology},
	{4, "health", "Health and failover", checkHealth},
	{5, "persistence", "Backups, size and history", checkPersistence},
	{6, "latency", "Latency and heartbeats", checkLatency},
	{7, "client", "The client's timeouts and retries", checkClient},
	{8, "monitoring", "Metrics, keys and leases", checkMonitoring},
}
