package doctor

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/pool"
)

// Patient is the cluster that is examined, and what may be done to it.
type Patient struct {
	*cli.Connection
	Config    pool.Config      // how it is connected to: the configuration that is reviewed
	Client    *clientv3.Client // to all endpoints, as given
	Endpoints []string         // those given

	Write    bool   // probe writes are allowed, below a prefix of the doctor's own, which is deleted afterwards
	Snapshot string // directory for the snapshot that is verified; empty for none

	// Of the configuration files that an operator gives the doctor, where there are any; zero if not.
	Heartbeat, Election time.Duration // the members' settings, where they are known (--heartbeat-interval, --election-timeout)
	Quota               int64         // --quota-backend-bytes, where it cannot be read from metrics
	SessionTTL          time.Duration // that of the application
}
