package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/scratch"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/registry"
)

// closeTimeout bounds the end of a demo that was broken off.
const closeTimeout = 5 * time.Second

// breath is the pause before a step, where somebody is looking.
const breath = 1500 * time.Millisecond

// Config says how the demo is to be shown.
type Config struct {
	// Metrics, if set, is the address, HOST:PORT, on which the metrics of all processes are served. Then the service uses a queue and a
	// pool as well, etcd syncs to disk, and before the service is stopped it goes on until ctx ends. Without a host it is this
	// machine's only.
	Metrics string
}

// Validate returns an error that names the rule that the configuration breaks.
func (c Config) Validate() error {
	if c.Metrics == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(c.Metrics)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("--metrics %s: it must be :PORT or HOST:PORT", c.Metrics)
	}
	return nil
}

// Run shows the demo on a screen. It returns nil if everything that was promised was seen, the cause of ctx if that
// ended first, and otherwise an error that says how many promises held. With Config.Metrics ctx may end once the
// service goes on for those who look at it: what is left of the demo is shown then. The program must have called
// etcdproc.Main first thing, with orders.Main registered as orders.Child.
func Run(ctx context.Context, out *screen.Screen, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	began := time.Now()
	var metrics net.Listener
	if cfg.Metrics != "" {
		if metrics, err = listenLocally(ctx, cfg.Metrics); err != nil {
			return fmt.Errorf("--metrics %s: %w", cfg.Metrics, err)
		}
		defer func() { _ = metrics.Close() }() // as a rule it is closed already
	}
	dir, err := scratch.New("etcdkit-demo")
	if err != nil {
		return err
	}
	s := &show{printer: printer{Screen: out, began: began}, record: newRecord(), dir: dir.Path}
	defer func() { err = errors.Join(err, s.dispose(ctx, dir, err)) }()
	s.title()
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { cancel(); s.watchers.Wait() }()
	if metrics != nil {
		err = s.observe(metrics)
	}
	if err == nil {
		err = s.open(ctx, watching)
	}
	if err == nil {
		err = s.play(ctx, trouble)
	}
	if err == nil && s.observed() {
		if err = s.play(ctx, looking); err == nil {
			ctx = watching // it has ended as it was to
		}
	}
	if err == nil {
		err = s.play(ctx, ending)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.Err() != nil:
		return s.Err()
	case err != nil && len(s.findings) == 0:
		return err
	}
	s.summary(s.findings)
	held := 0
	for _, f := range s.findings {
		if f.err == nil {
			held++
		}
	}
	if held < len(promises) {
		return fmt.Errorf("%d of %d promises held", held, len(promises))
	}
	s.Print(s.Paint(screen.Bold, fmt.Sprintf(" All %d held, in %s.", held, screen.Duration(time.Since(began)))))
	return err
}

// step is a part of the demo, and what it is to prove.
type step struct {
	title    string
	run      func(*show, context.Context) error
	promises []string
}

// The steps of the demo, in order; looking is left out where there is nothing to look at.
var (
	trouble = []step{
		{"Discovery: three processes of a service start", (*show).discover, []string{promiseDiscovery}},
		{"Configuration: it is changed", (*show).reprice, []string{promiseRepricing}},
		{"Configuration: it is changed to something bad", (*show).refuse, []string{promiseRefusal}},
		{"Leadership: the leading process is killed", (*show).succeed, []string{promiseSuccession, promiseReplacement}},
		{"Locks: etcd's own leader is killed while a process holds one", (*show).failOver, []string{promiseFailover}},
		{"Fencing: the holder of the lock is frozen, just before it writes", (*show).freeze, []string{promiseFence, promiseReturn}},
	}
	looking = []step{
		{"Metrics: the service goes on until Ctrl-C", (*show).stay, nil},
	}
	ending = []step{
		{"Graceful stop: the service is stopped", (*show).dismiss, []string{promiseFarewell}},
		{"The whole run, replayed from etcd's history", (*show).audit, []string{promiseBook, promiseReign}},
		{"The end: etcd is stopped", (*show).clear, []string{promiseCleanup}},
	}
)

// play shows steps until a promise does not hold.
func (s *show) play(ctx context.Context, steps []step) error {
	for _, step := range steps {
		if err := s.breathe(ctx); err != nil {
			return err
		}
		s.played++
		s.step(s.played, step.title)
		if err := step.run(s, ctx); err != nil {
			return s.unproven(ctx, step.promises, err)
		}
	}
	return nil
}

// unproven puts the error with which a step ended to the account of the first of its promises that has not been
// judged.
func (s *show) unproven(ctx context.Context, promises []string, err error) error {
	if ctx.Err() != nil || s.Err() != nil || errors.Is(err, errBroken) {
		return err
	}
	for _, promise := range promises {
		if !slices.ContainsFunc(s.findings, func(f finding) bool { return f.promise == promise }) {
			return s.found(finding{promise: promise, err: err})
		}
	}
	return err
}

// breathe lets whoever looks read what was shown.
func (s *show) breathe(ctx context.Context) error {
	if !s.Moving() {
		return nil
	}
	select {
	case <-time.After(breath):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// title says what is about to be shown.
func (s *show) title() {
	s.Print("")
	s.Print("  " + s.Paint(screen.Bold, "etcdkit demo"))
	s.Print("")
	for _, line := range screen.Wrap("Three etcd members and three processes of a small service called orders, on this machine, "+
		"for about half a minute. Every claim is checked against etcd's own history, which a plain client reads.", s.Width()-4) {
		s.Print("  " + line)
	}
}

// open starts etcd, and all that watches it until watching ends.
func (s *show) open(ctx, watching context.Context) (err error) {
	s.waiting("etcd starts")
	// What takes no time has no figures.
	s.cluster, err = etcdproc.Start(ctx, etcdproc.Config{Members: 3, Dir: filepath.Join(s.dir, "etcd"), NoFsync: !s.observed()})
	s.Status("")
	if err != nil {
		return err
	}
	s.members.Store(new(s.cluster.Endpoints()))
	var members []string
	for i := range s.cluster.Size() {
		s.pids = append(s.pids, s.cluster.Process(i).PID())
		members = append(members, fmt.Sprintf("%s %s", memberName(i), strings.TrimPrefix(s.cluster.Endpoint(i), "http://")))
	}
	s.Print("")
	disk := "no fsync"
	if s.observed() {
		disk = "fsync"
	}
	s.fact("etcd", fmt.Sprintf("%s, up in %s; heartbeat 100 ms, election timeout 1 s, %s",
		version.Version, screen.Duration(time.Since(s.began)), disk))
	s.fact("members", strings.Join(members, "  "))
	s.fact("service", fmt.Sprintf("orders: processes a, b, c, then d; sessions with a TTL of %s", seconds(orders.TTL)))
	if s.observed() {
		s.fact("metrics", s.metricsURL)
	}
	if s.plain, err = s.cluster.Client(clientv3.Config{}); err != nil {
		return err
	}
	s.watchers.Go(func() { witness(watching, s.plain, s.record) })
	if s.kit, err = s.cluster.Client(clientv3.Config{}); err != nil {
		return err
	}
	if s.view, err = registry.Watch(ctx, s.kit, orders.Name, nil); err != nil {
		return err
	}
	s.watchers.Go(func() { s.follow(watching) })
	return nil
}

// fact is a line of the introduction.
func (s *show) fact(what, text string) {
	s.Print("  " + s.Paint(screen.Dim, screen.Pad(what, 9)) + text)
}

// dispose ends whatever still runs, and removes the directory, unless something did not hold: then the logs stay.
func (s *show) dispose(ctx context.Context, dir *scratch.Dir, failed error) error {
	unseen := ctx.Err() != nil || s.Err() != nil // nobody wants to know any more
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	if s.unobserve != nil {
		errs = append(errs, s.unobserve())
	}
	for _, a := range s.actors {
		errs = append(errs, a.close())
	}
	if s.view != nil {
		s.view.Close()
	}
	for _, client := range []*clientv3.Client{s.kit, s.plain} {
		if client != nil {
			_ = client.Close() // its members may be gone already
		}
	}
	if s.cluster != nil {
		errs = append(errs, s.cluster.Stop(ctx))
	}
	if failed == nil || unseen {
		return errors.Join(append(errs, dir.Remove())...)
	}
	for i := range 3 {
		_ = os.RemoveAll(filepath.Join(dir.Path, "etcd", memberName(i))) // the data are large, and say less than the logs
	}
	kept, err := dir.Keep()
	s.Print("The logs are in " + kept)
	return errors.Join(append(errs, err)...)
}
