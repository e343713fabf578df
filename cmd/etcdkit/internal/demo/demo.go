package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// Run shows the demo on a screen. It returns nil if everything that was promised was seen, the cause of ctx if that
// ended first, and otherwise an error that says how many promises held. The program must have called etcdproc.Main
// first thing, with orders.Main registered as orders.Child.
func Run(ctx context.Context, out *screen.Screen) (err error) {
	began := time.Now()
	dir, err := scratch.New("etcdkit-demo")
	if err != nil {
		return err
	}
	s := &show{printer: printer{Screen: out, began: began}, record: newRecord(), dir: dir.Path}
	defer func() { err = errors.Join(err, s.dispose(ctx, dir, err)) }()
	s.title()
	watching, cancel := context.WithCancel(ctx)
	defer func() { cancel(); s.watchers.Wait() }()
	if err = s.open(watching); err == nil {
		err = s.play(ctx)
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

// play shows everything, step by step, until a promise does not hold.
func (s *show) play(ctx context.Context) error {
	for i, step := range []struct {
		title    string
		run      func(context.Context) error
		promises []string
	}{
		{"Discovery: three processes of a service start", s.discover, []string{promiseDiscovery}},
		{"Configuration: it is changed", s.reprice, []string{promiseRepricing}},
		{"Configuration: it is changed to something bad", s.refuse, []string{promiseRefusal}},
		{"Leadership: the leading process is killed", s.succeed, []string{promiseSuccession, promiseReplacement}},
		{"Locks: etcd's own leader is killed while a process holds one", s.failOver, []string{promiseFailover}},
		{"Fencing: the holder of the lock is frozen, just before it writes", s.freeze, []string{promiseFence, promiseReturn}},
		{"Graceful stop: the service is stopped", s.dismiss, []string{promiseFarewell}},
		{"The whole run, replayed from etcd's history", s.audit, []string{promiseBook, promiseReign}},
		{"The end: etcd is stopped", s.clear, []string{promiseCleanup}},
	} {
		if err := s.breathe(ctx); err != nil {
			return err
		}
		s.step(i+1, step.title)
		if err := step.run(ctx); err != nil {
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

// open starts etcd, and all that watches it.
func (s *show) open(ctx context.Context) (err error) {
	s.waiting("etcd starts")
	s.cluster, err = etcdproc.Start(ctx, etcdproc.Config{Members: 3, Dir: filepath.Join(s.dir, "etcd"), NoFsync: true})
	s.Status("")
	if err != nil {
		return err
	}
	var members []string
	for i := range s.cluster.Size() {
		s.pids = append(s.pids, s.cluster.Process(i).PID())
		members = append(members, fmt.Sprintf("%s %s", memberName(i), strings.TrimPrefix(s.cluster.Endpoint(i), "http://")))
	}
	s.Print("")
	s.fact("etcd", fmt.Sprintf("%s, up in %s; heartbeat 100 ms, election timeout 1 s, no fsync",
		version.Version, screen.Duration(time.Since(s.began))))
	s.fact("members", strings.Join(members, "  "))
	s.fact("service", fmt.Sprintf("orders: processes a, b, c, then d; sessions with a TTL of %s", seconds(orders.TTL)))
	if s.plain, err = s.cluster.Client(clientv3.Config{}); err != nil {
		return err
	}
	s.watchers.Go(func() { witness(ctx, s.plain, s.record) })
	if s.kit, err = s.cluster.Client(clientv3.Config{}); err != nil {
		return err
	}
	if s.view, err = registry.Watch(ctx, s.kit, orders.Name, nil); err != nil {
		return err
	}
	s.watchers.Go(func() { s.follow(ctx) })
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
