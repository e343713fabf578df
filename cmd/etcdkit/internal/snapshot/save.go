package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/scratch"
)

// ErrBehind says that the member that was asked does not have what the cluster has.
var ErrBehind = errors.New("the member that sent it is behind the cluster")

// scratchName is what the names of directories begin with that hold what is not done.
const scratchName = ".etcdkit-snapshot"

// Stages of the work, as Progress names them.
const (
	Saving    = "saving"
	Checking  = "checking"
	Restoring = "restoring"
	Comparing = "comparing"
)

// Progress is told how far a stage has come. A total of 0 means that nobody knows how much there is.
type Progress func(stage string, done, total int64)

// of is the progress of a stage.
func (p Progress) of(stage string) func(done, total int64) {
	return func(done, total int64) {
		if p != nil {
			p(stage, done, total)
		}
	}
}

// Options say how Save saves.
type Options struct {
	// Dir is where the snapshot goes. It must exist.
	Dir string

	// Name is what the name of the file begins with. Default DefaultName.
	Name string

	// Verify has the snapshot restored, and compared with the cluster, before it gets its name.
	Verify bool

	// Progress may be nil.
	Progress Progress
}

// Saved is what Save has done.
type Saved struct {
	File
	SHA256  string
	Version string // that of the database's layout, as in 3.6.0; "" before etcd 3.6

	// Verification is nil unless Options.Verify is set.
	Verification *Verification
}

// Save takes a snapshot of one of the members that the client knows. If it fails, or ctx ends, no file is left.
//
// Errors: ErrNoSpace; ErrDamaged; ErrBehind; with Verify those of [Verify]; and those of etcd.
func Save(ctx context.Context, client *clientv3.Client, o Options) (_ *Saved, err error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	if info, err := os.Stat(o.Dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s: it is no directory", o.Dir)
	}
	size, err := databaseSize(ctx, client)
	if err != nil {
		return nil, err
	}
	need := size
	if o.Verify {
		need += size + logs
	}
	if err := room(o.Dir, need); err != nil {
		return nil, err
	}
	// What has to be in it: a member answers this from what it has itself, however old that is.
	now, err := client.Get(ctx, "etcdkit", clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	work, err := scratch.NewIn(o.Dir, scratchName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, work.Remove()) }()
	saved := &Saved{}
	part := filepath.Join(work.Path, "snapshot.db")
	if saved.Version, err = stream(ctx, client, part, size, o.Progress.of(Saving)); err != nil {
		return nil, err
	}
	if saved.SHA256, err = Sum(ctx, part, o.Progress.of(Checking)); err != nil {
		return nil, fmt.Errorf("what was sent is no whole snapshot: %w", err)
	}
	if saved.Revision, err = revisionOf(ctx, part); err != nil {
		return nil, err
	}
	if saved.Revision < now.Header.Revision {
		return nil, fmt.Errorf("%w: revision %d, and %d was there before", ErrBehind, saved.Revision, now.Header.Revision)
	}
	if o.Verify {
		if saved.Verification, err = verifyIn(ctx, work.Path, part, client, o.Progress); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	path := filepath.Join(o.Dir, fileName(o.Name, time.Now(), saved.Revision))
	if err := os.Rename(part, path); err != nil {
		return nil, err
	}
	if err := syncDir(o.Dir); err != nil {
		return nil, err
	}
	if saved.File, err = fileAt(path); err != nil {
		return nil, err
	}
	return saved, nil
}

// databaseSize is the size of the largest database of the members that answer.
func databaseSize(ctx context.Context, client *clientv3.Client) (size int64, err error) {
	endpoints := client.Endpoints()
	sizes, failed := make([]int64, len(endpoints)), make([]error, len(endpoints))
	var asked sync.WaitGroup
	for i, endpoint := range endpoints {
		asked.Go(func() {
			var s *clientv3.StatusResponse
			if s, failed[i] = status(ctx, client, endpoint); failed[i] == nil {
				sizes[i] = s.DbSize
			}
		})
	}
	asked.Wait()
	for i := range endpoints {
		if failed[i] == nil {
			size, err = max(size, sizes[i]), nil
		} else if size == 0 {
			err = fmt.Errorf("%s: %w", endpoints[i], failed[i])
		}
	}
	return size, err
}

// stream writes what a member sends into a new file, and returns when that is on disk.
func stream(ctx context.Context, client *clientv3.Client, path string, size int64, progress func(done, total int64)) (version string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := client.SnapshotWithVersion(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Snapshot.Close()) }()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copyTo(ctx, f, resp.Snapshot, size+sha256.Size, progress); err != nil {
		return "", err
	}
	return resp.Version, f.Sync()
}
