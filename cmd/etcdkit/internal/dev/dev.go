// Package dev runs an etcd for development: one member or three, each a process of its own, on this machine only.
package dev

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/version"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/scratch"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// DefaultPort is etcd's own: where etcdctl looks for it.
const DefaultPort = 2379

// maxPort leaves room for the ports of three members.
const maxPort = 65535 - 5

// Config is what etcdkit dev is asked for.
type Config struct {
	// Members is 1 or 3. 0 means 1, or what Dir holds.
	Members int

	// Port is where clients reach the first member. The ports after it are for its peers and for the other members, two
	// each. 0 means any that are free, those of the cluster in Dir if they are.
	Port int

	// Dir is where the data stay, and are found again. Empty means a temporary directory.
	Dir string
}

// Validate returns an error that names the rule that the configuration breaks.
func (c Config) Validate() error {
	switch {
	case c.Members != 0 && c.Members != 1 && c.Members != 3:
		return fmt.Errorf("--members %d: a cluster for development has 1 or 3", c.Members)
	case c.Port < 0 || c.Port > maxPort:
		return fmt.Errorf("--port %d: it must be 0 to %d", c.Port, maxPort)
	}
	return nil
}

// Run starts an etcd, says on the screen how to reach it, and stops it when ctx ends, which is no error. It returns
// one if etcd cannot be started, or when no majority of its members runs any more. The program must have called
// etcdproc.Main first thing.
func Run(ctx context.Context, out *screen.Screen, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	dir := cfg.Dir
	if dir == "" {
		temporary, err := scratch.New("etcdkit-dev")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, temporary.Remove()) }()
		dir = temporary.Path
	}
	began := time.Now()
	out.Status("etcd starts ...")
	cluster, err := etcdproc.Start(ctx, etcdproc.Config{Members: cfg.Members, Dir: dir, Port: cfg.Port})
	out.Status("")
	if ctx.Err() != nil {
		return nil // it was not to run any more
	}
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	introduce(out, cluster, cfg, time.Since(began))
	err = watch(ctx, out, cluster)
	out.Print("")
	out.Print("etcd stops.")
	return err
}

// explain says of an error what to do about it, where something can be done.
func explain(err error) error {
	text := strings.TrimPrefix(err.Error(), "etcdproc: ")
	if errors.Is(err, syscall.EADDRINUSE) {
		text += "; --port takes others, 0 any that are free"
	}
	return errors.New(text)
}

// introduce says where etcd is, and what to type to use it.
func introduce(out *screen.Screen, cluster *etcdproc.Cluster, cfg Config, took time.Duration) {
	fact := func(what, text string) { out.Print("  " + out.Paint(screen.Dim, screen.Pad(what, 11)) + text) }
	out.Print("")
	out.Print("  " + out.Paint(screen.Bold, fmt.Sprintf("etcd %s for development", version.Version)) +
		fmt.Sprintf(", up in %s. Ctrl-C stops it.", screen.Duration(took)))
	out.Print("")
	for i := range cluster.Size() {
		what := ""
		if i == 0 {
			what = "members"
		}
		fact(what, fmt.Sprintf("%s  %s  process %d", name(i), cluster.Endpoint(i), cluster.Process(i).PID()))
	}
	data := cluster.Dir()
	if cfg.Dir == "" {
		data += ", removed at the end"
	}
	fact("data, logs", data)
	out.Print("")
	out.Print("export ETCDCTL_ENDPOINTS=" + strings.Join(cluster.Endpoints(), ","))
	out.Print("")
}

// watch returns when ctx ends, or with an error when too few members are left to serve. Those that end before are
// told of: killing one is a fair thing to try.
func watch(ctx context.Context, out *screen.Screen, cluster *etcdproc.Cluster) error {
	type end struct {
		member int
		why    error
	}
	ends := make(chan end)
	for i := range cluster.Size() {
		p := cluster.Process(i)
		go func() {
			select {
			case <-p.Done():
				select {
				case ends <- end{i, p.Err()}:
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
		}()
	}
	for left := cluster.Size(); ; {
		select {
		case <-ctx.Done():
			return nil
		case e := <-ends:
			left--
			why := "it has exited"
			if exit, ok := errors.AsType[*etcdproc.ExitError](e.why); ok {
				why = exit.Reason
			}
			if left <= cluster.Size()/2 {
				return fmt.Errorf("member %s has ended (%s), and etcd with it", name(e.member), why)
			}
			out.Print(fmt.Sprintf("  %s has ended (%s). The others go on.", name(e.member), why))
		}
	}
}

func name(i int) string { return fmt.Sprintf("m%d", i) }
