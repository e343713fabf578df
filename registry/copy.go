package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/file"
	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

const (
	// copyEvery is the least time between two writes of a copy.
	copyEvery = time.Second

	// agedEvery is how often a copy that has not changed is marked as current.
	agedEvery = 30 * time.Second

	// maxCopy bounds a copy that is read.
	maxCopy = 256 << 20
)

var errCopyForeign = errors.New("it is of another service or was not written by this package")

// diskCopy is a service's instances in a file. When the file was last modified is when they were last known to be these.
type diskCopy struct {
	path    string
	prefix  string // of the service's keys
	service string
	log     *zap.Logger
	failing bool // the last write failed; owned by keep
}

// copied is what is in the file.
type copied struct {
	Prefix    string // of the keys: file names may collide where case does not count
	Revision  int64
	Instances []copiedInstance
}

type copiedInstance struct {
	ID    string
	Value json.RawMessage // as Register writes it
}

// newDiskCopy makes the directory.
func newDiskCopy(key serviceKey) (*diskCopy, error) {
	if err := os.MkdirAll(key.cacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("CacheDir refused: %w", err)
	}
	name := url.PathEscape(strings.TrimSuffix(key.prefix, "/"))
	return &diskCopy{
		path:    filepath.Join(key.cacheDir, name+".json"),
		prefix:  key.prefix,
		service: key.name,
		log:     key.logger.With(zap.String("service", key.name)),
	}, nil
}

// keep writes what is live and not written, until life ends, once a second at the most.
func (d *diskCopy) keep(life context.Context, cell *latest.Cell[published], written *published, follower *follow.Follower) {
	aged := time.NewTicker(agedEvery)
	defer aged.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	changed, stop := cell.Changed(life)
	defer stop()
	var due <-chan time.Time
	for life.Err() == nil {
		select {
		case <-life.Done():
		case <-changed:
			if due == nil {
				due = pause.C
			}
		case <-due:
			due = nil
			written = d.update(cell.Ptr(), written)
			pause.Reset(copyEvery)
		case <-aged.C:
			at := follower.Status().ProvenAt // before it is looked whether there is something newer
			if p := cell.Ptr(); p.Source == Live && written.Source == Live && slices.Equal(p.Instances, written.Instances) {
				_ = os.Chtimes(d.path, time.Time{}, at) // if that fails the copy seems older than it is
			}
		}
	}
	d.update(cell.Ptr(), written)
}

// update writes p, if it is live and not what was written last, and returns what is in the file.
func (d *diskCopy) update(p, written *published) *published {
	if p == written || p.Source != Live || written.Source == Live && slices.Equal(p.Instances, written.Instances) {
		return written
	}
	if err := d.save(p); err != nil {
		if !d.failing {
			d.log.Warn("copy of the instances cannot be written", zap.Error(err))
		}
		d.failing = true
		return written
	}
	d.failing = false
	return p
}

// save replaces the file: whoever reads it finds the old one or the new one.
func (d *diskCopy) save(p *published) error {
	c := copied{Prefix: d.prefix, Revision: p.Revision, Instances: make([]copiedInstance, 0, len(p.Instances))}
	for _, i := range p.Instances {
		value, err := encode(*i)
		if err != nil {
			return err
		}
		c.Instances = append(c.Instances, copiedInstance{i.ID, json.RawMessage(value)})
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the copy: %w", err)
	}
	return file.Replace(d.path, text)
}

// load reads the file. What it holds is checked as what is in etcd is, and instances that are not in order are left out.
func (d *diskCopy) load() (list []*Instance, revision int64, at time.Time, err error) {
	text, at, err := file.Read(d.path, maxCopy)
	if err != nil {
		return nil, 0, at, err
	}
	var c copied
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, 0, at, fmt.Errorf("copy %s: %w", d.path, jsonError(err))
	}
	if c.Prefix != d.prefix {
		return nil, 0, at, errCopyForeign
	}
	for _, ci := range c.Instances {
		if i, err := decode(d.service, ci.ID, ci.Value); err == nil {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *Instance) int { return strings.Compare(a.ID, b.ID) })
	list = slices.CompactFunc(list, func(a, b *Instance) bool { return a.ID == b.ID })
	return list, c.Revision, at, nil
}
