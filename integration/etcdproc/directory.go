package etcdproc

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

const (
	layoutFile = "cluster.json"
	lockFile   = "lock"
)

// layout is what a directory remembers of its cluster, in cluster.json.
type layout struct {
	// Formed is set once every member has served. Before that there is nothing worth keeping.
	Formed  bool           `json:"formed"`
	Token   string         `json:"token"`
	Base    int            `json:"base"` // of the block of ports
	Members []memberLayout `json:"members"`
}

type memberLayout struct {
	Name       string `json:"name"`
	ClientPort int    `json:"clientPort"`
	PeerPort   int    `json:"peerPort"`
}

func (m memberLayout) clientURL() string { return "http://" + loopback(m.ClientPort) }
func (m memberLayout) peerURL() string   { return "http://" + loopback(m.PeerPort) }

func (l layout) initialCluster() string {
	pairs := make([]string, 0, len(l.Members))
	for _, m := range l.Members {
		pairs = append(pairs, m.Name+"="+m.peerURL())
	}
	return strings.Join(pairs, ",")
}

// directory is a cluster's directory, locked against every other cluster.
type directory struct {
	path      string
	temporary bool
	lock      *fileutil.LockedFile
}

func openDirectory(path string) (_ *directory, err error) {
	d := &directory{path: path}
	if path == "" {
		d.temporary = true
		if d.path, err = os.MkdirTemp("", "etcdproc-"); err != nil {
			return nil, fmt.Errorf("etcdproc: %w", err)
		}
	} else if d.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("etcdproc: %w", err)
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, fmt.Errorf("etcdproc: %w", err)
	}
	d.lock, err = fileutil.TryLockFile(filepath.Join(d.path, lockFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("etcdproc: another cluster runs in %s", d.path)
	}
	if err != nil {
		return nil, fmt.Errorf("etcdproc: locking %s: %w", d.path, err)
	}
	return d, nil
}

func (d *directory) close() error {
	var errs []error
	if d.temporary {
		errs = append(errs, os.RemoveAll(d.path))
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

// prepare makes the directory fit for a start: it reads or makes the layout, reserves its ports, and makes the
// members' data agree with them.
func (d *directory) prepare(members, port int) (l layout, _ *Ports, err error) {
	if err := d.read(&l); err != nil {
		return l, nil, err
	}
	if members == 0 {
		members = max(1, len(l.Members))
	}
	if l.Formed && members != len(l.Members) {
		return l, nil, fmt.Errorf("etcdproc: %s holds a cluster of %d members, not of %d", d.path, len(l.Members), members)
	}
	if !l.Formed {
		// What an attempt that came to nothing has left behind.
		for _, m := range l.Members {
			if err := os.RemoveAll(filepath.Join(d.path, m.Name)); err != nil {
				return l, nil, fmt.Errorf("etcdproc: %w", err)
			}
		}
		l = layout{Token: rand.Text(), Members: make([]memberLayout, members)}
		for i := range l.Members {
			l.Members[i].Name = fmt.Sprintf("m%d", i)
			if _, err := os.Stat(filepath.Join(d.path, l.Members[i].Name)); err == nil {
				return l, nil, fmt.Errorf("etcdproc: %s holds data of a member, and no %s", d.path, layoutFile)
			}
		}
	}
	ports, err := l.reserve(port)
	if err != nil {
		return l, nil, err
	}
	if err := d.write(l); err != nil {
		return l, nil, errors.Join(err, ports.Close())
	}
	if l.Formed {
		for _, m := range l.Members {
			if err := d.move(m.Name, l.Members); err != nil {
				return l, nil, errors.Join(err, ports.Close())
			}
		}
	}
	return l, ports, nil
}

// reserve takes the ports from port on, or else those of the layout again, or others if it has none or they are taken.
func (l *layout) reserve(port int) (*Ports, error) {
	if port != 0 {
		return l.settle(port)
	}
	if l.Base != 0 {
		if ports, err := ReservePortsAt(l.Base); err == nil {
			return ports, nil
		}
	}
	ports, err := ReservePorts()
	if err != nil {
		return nil, err
	}
	l.Base = ports.Base()
	for i := range l.Members {
		m := &l.Members[i]
		for _, port := range []*int{&m.ClientPort, &m.PeerPort} {
			var ok bool
			if *port, ok = ports.Take(); !ok {
				return nil, errors.Join(fmt.Errorf("etcdproc: %d members need more ports than there are", len(l.Members)), ports.Close())
			}
		}
	}
	return ports, nil
}

// settle takes the ports from port on, which nothing guards: they are not of the range that blocks come from.
func (l *layout) settle(port int) (*Ports, error) {
	if last := port + 2*len(l.Members) - 1; port < 1 || last > 65535 {
		return nil, fmt.Errorf("etcdproc: port %d leaves no room for %d members' ports", port, len(l.Members))
	}
	l.Base = 0
	for i := range l.Members {
		m := &l.Members[i]
		m.ClientPort, m.PeerPort = port+2*i, port+2*i+1
		for _, p := range []int{m.ClientPort, m.PeerPort} {
			listener, err := net.Listen("tcp", loopback(p))
			if err != nil {
				return nil, fmt.Errorf("etcdproc: port %d: %w", p, err)
			}
			if err := listener.Close(); err != nil {
				return nil, fmt.Errorf("etcdproc: port %d: %w", p, err)
			}
		}
	}
	return &Ports{}, nil
}

// move makes the data of one member agree with the members' ports. Members find each other by what their data say,
// not by their configuration, and could not agree on a change of it before they have found each other.
func (d *directory) move(name string, members []memberLayout) (err error) {
	db := datadir.ToBackendFileName(filepath.Join(d.path, name))
	if _, err := os.Stat(db); err != nil {
		return fmt.Errorf("etcdproc: the data of member %s: %w", name, err)
	}
	be := backend.NewDefaultBackend(zap.NewNop(), db)
	defer func() { err = errors.Join(err, be.Close()) }()
	stored := schema.NewMembershipBackend(zap.NewNop(), be)
	known, _ := stored.MustReadMembersFromBackend()
	for _, k := range known {
		i := slices.IndexFunc(members, func(m memberLayout) bool { return m.Name == k.Name })
		if i < 0 {
			return fmt.Errorf("etcdproc: member %s knows of a member %q (%v) that %s does not", name, k.Name, k.PeerURLs, layoutFile)
		}
		if want := []string{members[i].peerURL()}; !slices.Equal(k.PeerURLs, want) {
			k.PeerURLs, k.ClientURLs = want, []string{members[i].clientURL()}
			stored.MustSaveMemberToBackend(k)
		}
	}
	be.ForceCommit()
	return nil
}

// formed remembers that the cluster has served.
func (d *directory) formed(l layout) error {
	l.Formed = true
	return d.write(l)
}

func (d *directory) read(l *layout) error {
	b, err := os.ReadFile(filepath.Join(d.path, layoutFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err != nil {
		return fmt.Errorf("etcdproc: %s: %w", layoutFile, err)
	}
	return nil
}

// write replaces the file at once, so that no half of it is ever read.
func (d *directory) write(l layout) error {
	b, err := json.MarshalIndent(l, "", "\t")
	if err != nil {
		return fmt.Errorf("etcdproc: %w", err)
	}
	file := filepath.Join(d.path, layoutFile)
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("etcdproc: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("etcdproc: %w", err)
	}
	return nil
}
