package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/testutil"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/grpctesting"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/features"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/tests/v3/framework/integration"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// The framework's own way to a member (BeforeTest, NewCluster, MustNewMember) changes the process's working
// directory, because its sockets have relative names, and allows one test at a time. A Member is plain data until
// it is launched, though: what is built here has every listener on a loopback port of its own and needs neither, so
// that tests may be parallel and may have several clusters. Launch, Stop and the fault switches are the
// framework's.

// newMembers returns members that know of each other and are not launched yet.
func newMembers(o Options, dir string, ports *portPool) ([]*integration.Member, error) {
	members := make([]*integration.Member, o.Members)
	peers := types.URLsMap{}
	for i := range members {
		m, err := newMember(o, i, dir, ports)
		if err != nil {
			return nil, err
		}
		members[i] = m
		peers[m.Name] = m.PeerURLs
	}
	for _, m := range members {
		m.InitialPeerURLsMap = peers
	}
	return members, nil
}

func newMember(o Options, i int, dir string, ports *portPool) (*integration.Member, error) {
	peerPort, err := ports.take()
	if err != nil {
		return nil, err
	}
	clientPort, err := ports.take()
	if err != nil {
		return nil, err
	}
	m := &integration.Member{
		MemberNumber:       i,
		Port:               strconv.Itoa(clientPort),
		UseTCP:             true,
		UseIP:              true,
		GRPCURL:            "http://" + loopback(clientPort),
		GRPCServerRecorder: &grpctesting.GRPCRecorder{},
		// The framework leaves gRPC's own defaults, which cut a client off that pings more than once in five
		// minutes; these are etcd's.
		GRPCServerOpts: []grpc.ServerOption{
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: embed.DefaultGRPCKeepAliveMinTime}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time:    embed.DefaultGRPCKeepAliveInterval,
				Timeout: embed.DefaultGRPCKeepAliveTimeout,
			}),
		},
	}
	m.GRPCServerOpts = append(m.GRPCServerOpts, o.GRPC...)
	if o.ClientTLS != nil {
		m.ClientTLSInfo, m.GRPCURL = o.ClientTLS, "https://"+loopback(clientPort)
	}
	m.Name = fmt.Sprintf("m%d", i)
	m.DataDir = filepath.Join(dir, m.Name)
	if m.PeerURLs, err = types.NewURLs([]string{"http://" + loopback(peerPort)}); err != nil {
		return nil, err
	}
	// Advertised, so that clientv3's Sync finds what it can dial.
	if m.ClientURLs, err = types.NewURLs([]string{m.GRPCURL}); err != nil {
		return nil, err
	}
	m.InitialClusterToken = "etcdtest"
	m.NewCluster = true
	m.BootstrapTimeout = 10 * time.Millisecond
	m.TickMs = uint(o.Tick / time.Millisecond)
	m.ElectionTicks = o.ElectionTicks
	m.InitialElectionTickAdvance = true
	m.PreVote = true
	m.StrictReconfigCheck = true
	m.UnsafeNoFsync = !o.Fsync
	m.QuotaBackendBytes = o.QuotaBytes
	m.MaxTxnOps = embed.DefaultMaxTxnOps
	m.MaxRequestBytes = embed.DefaultMaxRequestBytes
	m.MaxConcurrentStreams = embed.DefaultMaxConcurrentStreams
	m.SnapshotCount = etcdserver.DefaultSnapshotCount
	m.SnapshotCatchUpEntries = etcdserver.DefaultSnapshotCatchUpEntries
	m.AuthToken = "simple"
	m.BcryptCost = uint(bcrypt.MinCost)
	m.WatchProgressNotifyInterval = o.WatchProgress
	m.WarningApplyDuration = embed.DefaultWarningApplyDuration
	m.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	m.MaxLearners = membership.DefaultMaxLearners
	m.V2Deprecation = config.V2DeprDefault
	m.Logger = newMemberLog(m.Name)
	m.ServerFeatureGate = features.NewDefaultServerFeatureGate(m.Name, m.Logger)
	if o.Server != nil {
		o.Server(i, &m.ServerConfig)
	}
	return m, nil
}

var smallSegments = sync.OnceFunc(func() {
	// Two of 64 MB each are preallocated a member, in a temporary directory that may be memory.
	wal.SegmentSizeBytes = 4 << 20
})

// launch binds the member's ports, which it may have had before, and starts it.
func launch(m *integration.Member) (err error) {
	smallSegments()
	var listeners [2]net.Listener
	for i, addr := range []string{m.PeerURLs[0].Host, m.ClientURLs[0].Host} {
		l, lerr := net.Listen("tcp", addr)
		if lerr != nil {
			for _, open := range listeners[:i] {
				lerr = errors.Join(lerr, open.Close())
			}
			return fmt.Errorf("etcdtest: member %s: %w", m.Name, lerr)
		}
		listeners[i] = l
	}
	m.PeerListeners, m.GRPCListener = listeners[:1], listeners[1]
	if err := m.Launch(); err != nil {
		return fmt.Errorf("etcdtest: member %s: %w", m.Name, err)
	}
	return nil
}

// halt stops the member at once: its connections are cut first, as the framework's graceful stop waits two seconds
// for every open watch.
func halt(m *integration.Member) {
	if m.GRPCServer != nil {
		m.GRPCServer.Stop()
	}
	m.Stop(nopTB{})
	m.Server = nil
}

// ready waits until the member serves linearizable reads.
func ready(ctx context.Context, m *integration.Member) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := m.ServerClient.Get(attempt, "etcdtest/ready")
		cancel()
		if err == nil && m.Server.ClusterVersion() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcdtest: member %s is not ready: %w", m.Name, errors.Join(err, context.Cause(ctx)))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// portPool hands out ports, reserving block after block.
type portPool struct {
	mu     sync.Mutex // guards blocks
	blocks []*etcdproc.Ports
}

func (p *portPool) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.blocks); n > 0 {
		if port, ok := p.blocks[n-1].Take(); ok {
			return port, nil
		}
	}
	b, err := etcdproc.ReservePorts()
	if err != nil {
		return 0, err
	}
	p.blocks = append(p.blocks, b)
	port, _ := b.Take()
	return port, nil
}

func (p *portPool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, b := range p.blocks {
		errs = append(errs, b.Close())
	}
	p.blocks = nil
	return errors.Join(errs...)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// nopTB fills a parameter that the framework's Member.Stop does not use.
type nopTB struct{ testutil.TB }
