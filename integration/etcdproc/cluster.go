package etcdproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// startAttempts bounds how often Start takes other ports because of somebody who listens on one of its own
	// without keeping to the rule of Ports.
	startAttempts = 3

	// stopAllTimeout bounds Stop; then members are killed.
	stopAllTimeout = 10 * time.Second

	// pollInterval is how often Leader asks a member, and statusTimeout how long it waits for one that may be
	// frozen.
	pollInterval  = 10 * time.Millisecond
	statusTimeout = 500 * time.Millisecond
)

// Config describes a cluster to [Start]. The zero value of each field means its default.
type Config struct {
	// Members is the number of members. Default 1, or what Dir holds.
	Members int

	// Dir holds the members' data and logs, and is made if need be. What a former cluster has left there is taken
	// up again, on the same ports if they are free. Only one cluster at a time can have it. Default a temporary
	// directory that Stop removes.
	Dir string

	// Port, if set, is where clients reach the first member, on 127.0.0.1; the ports after it are the others': member i
	// serves clients on Port+2i and its peers on Port+2i+1. Start fails if one of them is in use
	// (syscall.EADDRINUSE), and names it. Default ports that are free, those of the cluster in Dir if they are.
	Port int

	// Heartbeat and Election are etcd's intervals, of at least a millisecond. Default etcd's own: 100 ms and 1 s.
	Heartbeat time.Duration
	Election  time.Duration

	// QuotaBytes is the size of the database that raises the NOSPACE alarm. Default etcd's, 2 GiB.
	QuotaBytes int64

	// NoFsync leaves out syncing to disk, for speed: data survive a killed process, not a crashed machine.
	NoFsync bool

	// CheapPasswords has passwords hashed at the least cost there is, for tests: at etcd's own, a member under the race
	// detector takes seconds for each.
	CheapPasswords bool

	// LogLevel is what members log into their files: debug, info, warn or error. Default info.
	LogLevel string
}

// Cluster is an etcd cluster whose members are processes of their own. Members are known by their index. All
// methods are safe for concurrent use.
type Cluster struct {
	cfg    Config
	dir    *directory
	ports  *Ports
	layout layout

	mu      sync.Mutex // guards both; not held while anything is waited for
	procs   []*Process // nil before the first start
	stopped bool

	stopOnce sync.Once
	stopErr  error
}

// Start starts a cluster and returns once every member serves, or an error that names the member and its reason.
// ctx bounds the start only. The program must call [Main] first thing in its main. The caller owns the cluster and
// must Stop it.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if cfg.Members < 0 {
		return nil, fmt.Errorf("etcdproc: %d members", cfg.Members)
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 100 * time.Millisecond
	}
	if cfg.Election == 0 {
		cfg.Election = time.Second
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "info"
	}
	dir, err := openDirectory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.close())
		}
	}()
	var tried []*Ports // held on to, so that the next attempt must take others
	defer func() {
		for _, ports := range tried {
			err = errors.Join(err, ports.Close())
		}
	}()
	for range startAttempts {
		var c *Cluster
		var ports *Ports
		if c, ports, err = start(ctx, cfg, dir); err == nil {
			return c, nil
		}
		if ports != nil {
			tried = append(tried, ports)
		}
		var exit *ExitError
		if cfg.Port != 0 || !errors.As(err, &exit) || exit.Code != addressInUse {
			return nil, err
		}
	}
	return nil, err
}

// start makes one attempt, on ports of its own. When it fails the caller closes them.
func start(ctx context.Context, cfg Config, dir *directory) (_ *Cluster, _ *Ports, err error) {
	layout, ports, err := dir.prepare(cfg.Members, cfg.Port)
	if err != nil {
		return nil, nil, err
	}
	c := &Cluster{cfg: cfg, dir: dir, ports: ports, layout: layout, procs: make([]*Process, len(layout.Members))}
	if err := c.Restart(ctx); err != nil {
		for _, p := range c.procs {
			if p != nil {
				err = errors.Join(err, p.Close())
			}
		}
		return nil, ports, err
	}
	if err := dir.formed(layout); err != nil {
		return nil, ports, errors.Join(err, c.stop(ctx))
	}
	return c, ports, nil
}

// Size returns the number of members, running or not.
func (c *Cluster) Size() int { return len(c.layout.Members) }

// Endpoints returns the members' endpoints, in order. They stay the same for the cluster's life.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, 0, c.Size())
	for i := range c.Size() {
		endpoints = append(endpoints, c.Endpoint(i))
	}
	return endpoints
}

// Endpoint returns the endpoint of member i.
func (c *Cluster) Endpoint(i int) string { return c.layout.Members[i].clientURL() }

// Dir returns the directory of the members' data and logs.
func (c *Cluster) Dir() string { return c.dir.path }

// Client opens a client with the given configuration; without Endpoints it is one over all members, and without a
// Logger a silent one. The caller closes it.
func (c *Cluster) Client(cfg clientv3.Config) (*clientv3.Client, error) {
	if len(cfg.Endpoints) == 0 {
		cfg.Endpoints = c.Endpoints()
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return clientv3.New(cfg)
}

// Process returns the process that is member i, the last one if it is gone.
func (c *Cluster) Process(i int) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.procs[i]
}

// Kill ends member i with SIGKILL and returns once it is gone, see [Process.Kill].
func (c *Cluster) Kill(i int) error { return c.Process(i).Kill() }

// Freeze stops member i with SIGSTOP, see [Process.Freeze].
func (c *Cluster) Freeze(i int) error { return c.Process(i).Freeze() }

// Thaw lets member i go on after Freeze.
func (c *Cluster) Thaw(i int) error { return c.Process(i).Thaw() }

// Terminate stops member i in order, with SIGTERM: it hands leadership on, and calls under way have half a second
// to end. It returns once the member is gone; if ctx ends first, the member goes on stopping.
func (c *Cluster) Terminate(ctx context.Context, i int) error {
	p := c.Process(i)
	if err := p.Terminate(); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// Restart starts members that are gone, all without an argument, on the data and the ports they had, and returns
// once they serve. Without a majority none does: start enough of them in one call. If ctx ends first they go on
// starting. Members that run are left alone.
func (c *Cluster) Restart(ctx context.Context, which ...int) error {
	if len(which) == 0 {
		for i := range c.Size() {
			which = append(which, i)
		}
	}
	var started []int
	for _, i := range which {
		spawned, err := c.spawn(i)
		if err != nil {
			return err
		}
		if spawned {
			started = append(started, i)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(started))
	var wg sync.WaitGroup
	for n, i := range started {
		wg.Go(func() {
			// The others may be waiting for the one that failed.
			if errs[n] = c.serving(ctx, i); errs[n] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return firstCause(errs)
}

// firstCause leaves out the errors of those that were only told to give up.
func firstCause(errs []error) error {
	var causes []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			causes = append(causes, err)
		}
	}
	if len(causes) == 0 {
		return errors.Join(errs...)
	}
	return errors.Join(causes...)
}

// spawn starts the process of member i unless it runs, and reports whether it did.
func (c *Cluster) spawn(i int) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false, fmt.Errorf("etcdproc: the cluster is stopped")
	}
	if p := c.procs[i]; p != nil {
		select {
		case <-p.Done():
		default:
			return false, nil
		}
	}
	m := c.layout.Members[i]
	config, err := json.Marshal(memberConfig{
		Name:           m.Name,
		Dir:            filepath.Join(c.dir.path, m.Name),
		Log:            c.logFile(i),
		LogLevel:       c.cfg.LogLevel,
		ClientURL:      m.clientURL(),
		PeerURL:        m.peerURL(),
		InitialCluster: c.layout.initialCluster(),
		Token:          c.layout.Token,
		Heartbeat:      c.cfg.Heartbeat,
		Election:       c.cfg.Election,
		QuotaBytes:     c.cfg.QuotaBytes,
		NoFsync:        c.cfg.NoFsync,
		CheapPasswords: c.cfg.CheapPasswords,
	})
	if err != nil {
		return false, err
	}
	p, err := Spawn(Command{Child: memberChild, Args: []string{m.Name}, Env: []string{memberEnv + "=" + string(config)}})
	if err != nil {
		return false, err
	}
	c.procs[i] = p
	return true, nil
}

// serving waits until member i, which has just been spawned, answers a linearizable read.
func (c *Cluster) serving(ctx context.Context, i int) error {
	p := c.Process(i)
	_, err := p.Expect(ctx, readyLine)
	if err == nil {
		err = c.ask(ctx, i, p)
	}
	if err == nil {
		return nil
	}
	if exit := p.Err(); exit != nil {
		err = exit
	}
	return fmt.Errorf("etcdproc: member %s does not serve: %w\nthe end of %s:\n%s",
		c.layout.Members[i].Name, err, c.logFile(i), c.Log(i))
}

func (c *Cluster) ask(ctx context.Context, i int, p *Process) (err error) {
	cli, err := c.Client(clientv3.Config{Endpoints: []string{c.Endpoint(i)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cli.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err = cli.Get(ctx, "etcdproc/ready")
	return err
}

// Leader waits until there is a leader, and returns its index. Frozen and dead members are none.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	polls, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	answers := make(chan answer)
	for i := range c.Size() {
		wg.Go(func() { c.poll(polls, i, answers) })
	}
	latest := make([]*pb.StatusResponse, c.Size())
	for {
		select {
		case a := <-answers:
			latest[a.member] = a.status
			if i := leader(latest); i >= 0 {
				return i, nil
			}
		case <-ctx.Done():
			return -1, fmt.Errorf("etcdproc: no leader: %w", context.Cause(ctx))
		}
	}
}

// answer is what a member says of itself, nothing if it does not answer.
type answer struct {
	member int
	status *pb.StatusResponse
}

// poll asks member i again and again. Each has a loop of its own, so that a frozen one does not hold up the rest.
func (c *Cluster) poll(ctx context.Context, i int, answers chan<- answer) {
	cli, err := c.Client(clientv3.Config{Endpoints: []string{c.Endpoint(i)}})
	if err != nil {
		return // a configuration of our own is always accepted
	}
	defer func() { _ = cli.Close() }() // it has served its purpose
	member := pb.NewMaintenanceClient(cli.ActiveConnection())
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, statusTimeout)
		status, err := member.Status(attempt, &pb.StatusRequest{})
		cancel()
		if err != nil {
			status = nil
		}
		select {
		case answers <- answer{i, status}:
		case <-ctx.Done():
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
		}
	}
}

// leader returns the member that leads by its own account and by that of a majority, or -1.
func leader(latest []*pb.StatusResponse) int {
	votes := make(map[uint64]int)
	for _, s := range latest {
		if s != nil {
			votes[s.Leader]++
		}
	}
	for i, s := range latest {
		if s != nil && s.Leader == s.Header.MemberId && votes[s.Leader] > len(latest)/2 {
			return i
		}
	}
	return -1
}

// Log returns the last lines that member i has logged, or why they cannot be read. All of them are in a file of the
// member's name in Dir.
func (c *Cluster) Log(i int) string {
	f, err := os.Open(c.logFile(i))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	start := max(0, info.Size()-tailSize)
	b, err := io.ReadAll(io.NewSectionReader(f, start, tailSize))
	if err != nil {
		return err.Error()
	}
	if _, whole, cut := bytes.Cut(b, []byte("\n")); cut && start > 0 {
		b = whole
	}
	return string(bytes.TrimSpace(b))
}

func (c *Cluster) logFile(i int) string {
	return filepath.Join(c.dir.path, c.layout.Members[i].Name+".log")
}

// Stop stops every member at once and in order, frozen ones too, and removes a temporary Dir. Members that are not
// gone when ctx ends, or after ten seconds, are killed; it is not an error to have to. Only the first call does it;
// the others wait for it and return the same.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() { c.stopErr = errors.Join(c.stop(ctx), c.dir.close()) })
	return c.stopErr
}

func (c *Cluster) stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = true
	procs := c.procs
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stopAllTimeout)
	defer cancel()
	for _, p := range procs {
		// One that is gone already cannot be told, nor need it.
		_ = p.signal(os.Interrupt)
		_ = p.Thaw()
	}
	var errs []error
	for _, p := range procs {
		select {
		case <-p.Done():
		case <-ctx.Done():
			errs = append(errs, p.Kill())
		}
	}
	return errors.Join(append(errs, c.ports.Close())...)
}
