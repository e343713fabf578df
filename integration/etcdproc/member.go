package etcdproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/crypto/bcrypt"
)

const (
	// memberChild is the name of the child that is an etcd member, and memberEnv holds its memberConfig.
	memberChild = "etcd member"
	memberEnv   = "ETCDPROC_MEMBER"

	// readyLine is what a member says on stdout once it serves.
	readyLine = "ready"

	// addressInUse is a member's exit code when somebody else listens on its port.
	addressInUse = 3

	// graceful is how long a member that is told to stop waits for its clients' calls to end. Etcd itself waits for
	// seven seconds, and a watch never ends.
	graceful = 500 * time.Millisecond
)

// memberConfig is what a member needs to know, as it crosses the process boundary.
type memberConfig struct {
	Name           string
	Dir            string
	Log            string
	LogLevel       string
	ClientURL      string
	PeerURL        string
	InitialCluster string
	Token          string
	Heartbeat      time.Duration
	Election       time.Duration
	QuotaBytes     int64
	NoFsync        bool
	CheapPasswords bool
}

func init() { Child(memberChild, member) }

// member runs an etcd member until it is told to stop: by SIGTERM, on which it hands leadership on and lets its
// clients' calls end, or by SIGINT, on which it stops at once because the others do too.
func member() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)

	var c memberConfig
	if err := json.Unmarshal([]byte(os.Getenv(memberEnv)), &c); err != nil {
		exit("the member's configuration in %s: %v", memberEnv, err)
	}
	cfg, err := c.embed()
	if err != nil {
		exit("member %s: %v", c.Name, err)
	}
	// Two segments of 64 MB each are preallocated otherwise, in a directory that may be memory.
	wal.SegmentSizeBytes = 8 << 20
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintf(os.Stderr, "etcdproc: member %s: %v\n", c.Name, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			os.Exit(addressInUse)
		}
		os.Exit(1)
	}
	ready := e.Server.ReadyNotify()
	for {
		select {
		case <-ready:
			fmt.Println(readyLine)
			ready = nil
		case err := <-e.Err():
			exit("member %s: %v", c.Name, err)
		case <-e.Server.StopNotify():
			exit("member %s stopped by itself", c.Name)
		case s := <-signals:
			if s == os.Interrupt {
				e.Server.HardStop()
				return
			}
			stop(e)
			return
		}
	}
}

// stop stops a member in order, but does not wait for watches to end.
func stop(e *embed.Etcd) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		e.Close()
	}()
	select {
	case <-closed:
	case <-time.After(graceful):
		e.Server.Stop()
	}
}

func (c memberConfig) embed() (*embed.Config, error) {
	client, err := url.Parse(c.ClientURL)
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse(c.PeerURL)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name = c.Name
	cfg.Dir = c.Dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.InitialCluster = c.InitialCluster
	cfg.InitialClusterToken = c.Token
	cfg.ClusterState = embed.ClusterStateFlagNew
	cfg.TickMs = uint(c.Heartbeat / time.Millisecond)
	cfg.ElectionMs = uint(c.Election / time.Millisecond)
	cfg.QuotaBackendBytes = c.QuotaBytes
	cfg.UnsafeNoFsync = c.NoFsync
	if c.CheapPasswords {
		cfg.BcryptCost = uint(bcrypt.MinCost)
	}
	cfg.LogLevel = c.LogLevel
	cfg.LogOutputs = []string{c.Log}
	return cfg, nil
}
