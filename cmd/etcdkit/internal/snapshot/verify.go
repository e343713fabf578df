package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/scratch"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	// answerWithin is how long a member may take to answer that it is there, and hashWithin to read its whole database.
	answerWithin = 3 * time.Second
	hashWithin   = 2 * time.Minute

	// catchUp is how long a member may take to have what another one had already.
	catchUp = 5 * time.Second
)

var (
	// ErrDiffers says that a snapshot is whole, and holds something else than the cluster.
	ErrDiffers = errors.New("differs from the cluster")

	// ErrNotCompared says that no member could tell what it holds at the snapshot's revision.
	ErrNotCompared = errors.New("could not be compared with the cluster")
)

// Verification is what a restored snapshot has shown.
type Verification struct {
	Revision int64
	Compact  int64  // the revision up to which its history is compacted; 0 for none
	Keys     int    // how many there are at Revision
	Size     int64  // of its database, in bytes
	Version  string // as that of Saved
	Hash     uint32 // HashKV at Revision

	// Compared is what the members of the cluster said; empty if it was not compared.
	Compared []Comparison
}

// Comparison is a restored snapshot beside a member.
type Comparison struct {
	Endpoint string

	// Hash is the member's, and Restored that of the snapshot with its history compacted up to the same revision, Compact.
	Hash, Restored uint32
	Compact        int64

	// Err is why the member could not be compared. Hash and Restored mean nothing then.
	Err error
}

// Equal reports whether the member holds the same.
func (c Comparison) Equal() bool { return c.Err == nil && c.Hash == c.Restored }

// Verify restores a snapshot below a directory, into a member that serves nobody, and compares it with each member that client knows;
// a nil client compares it with none. The file stays as it is, and of the member nothing is left.
//
// Errors: ErrDamaged; ErrDiffers if one member holds something else; ErrNotCompared if none could be compared, as a member that is
// silent or has compacted the revision cannot; ErrNoSpace. With ErrDiffers and ErrNotCompared the Verification is returned, too.
func Verify(ctx context.Context, path, dir string, client *clientv3.Client, progress Progress) (_ *Verification, err error) {
	f, err := fileAt(path)
	if err != nil {
		return nil, err
	}
	if _, err := Sum(ctx, path, progress.of(Checking)); err != nil {
		return nil, err
	}
	if err := room(dir, f.Size+logs); err != nil {
		return nil, err
	}
	work, err := scratch.NewIn(dir, scratchName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, work.Remove()) }()
	return verifyIn(ctx, work.Path, path, client, progress)
}

// verifyIn is Verify in a directory that its caller removes, of a file whose sum has been checked.
func verifyIn(ctx context.Context, dir, path string, client *clientv3.Client, progress Progress) (*Verification, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	progress.of(Restoring)(0, 0)
	r, err := startRestoring(ctx, dir, path)
	if err != nil {
		return nil, err
	}
	defer r.close()
	look, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	// The members are asked now and not when it is restored: they may compact the revision.
	asked := make(chan []Comparison, 1)
	go func() { asked <- ask(ctx, client, look.Revision) }()
	v, err := r.restored(ctx)
	if err == nil && v.Revision != look.Revision {
		err = fmt.Errorf("%w: it is restored at revision %d, and its newest key is of %d", ErrDamaged, v.Revision, look.Revision)
	}
	progress.of(Comparing)(0, 0)
	compared := <-asked
	if err != nil {
		return nil, err
	}
	for i := range compared {
		if c := &compared[i]; c.Err == nil && c.Compact < v.Compact {
			askAnew(ctx, client, c, v.Revision)
		}
	}
	// What is compacted stays so: those who have compacted least come first.
	slices.SortStableFunc(compared, func(a, b Comparison) int { return cmp.Compare(a.Compact, b.Compact) })
	for i := range compared {
		c := &compared[i]
		switch {
		case c.Err != nil:
		case c.Compact < v.Compact:
			c.Err = fmt.Errorf("its history is compacted up to revision %d, and that of the snapshot up to %d", c.Compact, v.Compact)
		default:
			if c.Restored, err = r.hash(ctx, v.Revision, c.Compact); err != nil {
				return nil, err
			}
		}
	}
	v.Compared = compared
	if client == nil {
		return v, nil
	}
	err = v.judge()
	return v, err
}

// judge returns an error unless a member holds the same, and none something else.
func (v *Verification) judge() error {
	equal := 0
	var differ, failed []string
	for _, c := range v.Compared {
		switch {
		case c.Equal():
			equal++
		case c.Err == nil:
			differ = append(differ, fmt.Sprintf("%s has hash %08x at revision %d, and the snapshot %08x", c.Endpoint, c.Hash, v.Revision, c.Restored))
		default:
			failed = append(failed, c.Endpoint+": "+c.Err.Error())
		}
	}
	switch {
	case len(differ) > 0:
		return fmt.Errorf("%w: %s", ErrDiffers, strings.Join(differ, "; "))
	case equal == 0:
		return fmt.Errorf("%w: %s", ErrNotCompared, strings.Join(failed, "; "))
	}
	return nil
}

// ask has every member tell its hash at a revision.
func ask(ctx context.Context, client *clientv3.Client, revision int64) []Comparison {
	if client == nil {
		return nil
	}
	all := make([]Comparison, len(client.Endpoints()))
	var asked sync.WaitGroup
	for i, endpoint := range client.Endpoints() {
		asked.Go(func() { all[i] = askMember(ctx, client, endpoint, revision) })
	}
	asked.Wait()
	return all
}

// askMember waits for a member that has yet to come to the revision.
func askMember(ctx context.Context, client *clientv3.Client, endpoint string, revision int64) Comparison {
	c := Comparison{Endpoint: endpoint}
	if _, c.Err = status(ctx, client, endpoint); c.Err != nil {
		return c
	}
	within, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		asking, cancel := context.WithTimeout(ctx, hashWithin)
		resp, err := client.HashKV(asking, endpoint, revision)
		cancel()
		switch {
		case err == nil && resp.HashRevision != 0 && resp.HashRevision != revision:
			c.Err = fmt.Errorf("it has hashed revision %d instead of %d", resp.HashRevision, revision)
			return c
		case err == nil:
			c.Hash, c.Compact = resp.Hash, max(resp.CompactRevision, 0)
			return c
		case !errors.Is(err, rpctypes.ErrFutureRev):
			c.Err = err
			return c
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-within.Done():
			c.Err = err
			return c
		}
	}
}

// askAnew asks a member again that has compacted the revision itself: it remembers the hash from before that. What it holds now it
// hashes anew, but that is of the same revision only if nothing was written since.
func askAnew(ctx context.Context, client *clientv3.Client, c *Comparison, revision int64) {
	asking, cancel := context.WithTimeout(ctx, hashWithin)
	defer cancel()
	resp, err := client.HashKV(asking, c.Endpoint, 0)
	if err == nil && cmp.Or(resp.HashRevision, resp.Header.GetRevision()) == revision {
		c.Hash, c.Compact = resp.Hash, max(resp.CompactRevision, 0)
	}
}

// status is that of a member, or an error that says in few words that there is none.
func status(ctx context.Context, client *clientv3.Client, endpoint string) (*clientv3.StatusResponse, error) {
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := client.Status(within, endpoint)
	if err != nil && ctx.Err() == nil && retry.EtcdError(err) == nil {
		return nil, errSilent
	}
	return resp, err
}

var errSilent = errors.New("it does not answer")
