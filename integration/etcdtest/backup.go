package etcdtest

import (
	"errors"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// Backup is a copy of every member's data.
type Backup struct {
	dirs     []string
	revision int64
}

// Revision returns the revision at which the backup was taken.
func (b *Backup) Revision() int64 { return b.revision }

// Backup stops every member, copies its data, and starts it again. [Cluster.Restore] then turns back time.
func (c *Cluster) Backup() *Backup {
	c.t.Helper()
	c.own("Backup")
	b := &Backup{revision: c.Revision()}
	c.Stop()
	to := c.t.TempDir()
	for _, m := range c.core.members {
		dir := filepath.Join(to, m.Name)
		if err := os.CopyFS(dir, os.DirFS(m.DataDir)); err != nil {
			c.t.Fatalf("etcdtest: backup: %v", err)
		}
		b.dirs = append(b.dirs, dir)
	}
	c.Restart()
	return b
}

// Restore stops every member, puts the data of a backup in the place of its own, and starts it again: revisions go
// backwards, and no client is told. The cluster's and the members' ids stay the same. A backup may be restored any
// number of times.
func (c *Cluster) Restore(b *Backup) {
	c.t.Helper()
	c.own("Restore")
	c.restore(b, 0)
}

// RestoreBumped is Restore with revisions that go on, by so many, from that of the backup, all of them compacted: what
// "etcdutl snapshot restore --bump-revision --mark-compacted" does, so that whoever watches has to read again.
func (c *Cluster) RestoreBumped(b *Backup, by int64) {
	c.t.Helper()
	c.own("RestoreBumped")
	c.restore(b, by)
}

func (c *Cluster) restore(b *Backup, by int64) {
	c.t.Helper()
	c.Stop()
	for i, m := range c.core.members {
		if err := os.RemoveAll(m.DataDir); err != nil {
			c.t.Fatalf("etcdtest: restore: %v", err)
		}
		if err := os.CopyFS(m.DataDir, os.DirFS(b.dirs[i])); err != nil {
			c.t.Fatalf("etcdtest: restore: %v", err)
		}
		if by > 0 {
			if err := bump(filepath.Join(m.DataDir, "member", "snap", "db"), by); err != nil {
				c.t.Fatalf("etcdtest: restore: %v", err)
			}
		}
	}
	c.Restart()
}

// bump raises the revision of a member's database, and has all revisions up to it be compacted.
func bump(path string, by int64) error {
	db := backend.NewDefaultBackend(zap.NewNop(), path)
	tx := db.BatchTx()
	tx.LockOutsideApply()
	var newest mvcc.BucketKey
	err := tx.UnsafeForEach(schema.Key, func(k, _ []byte) error {
		newest = mvcc.BytesToBucketKey(k) // they are in order
		return nil
	})
	if err == nil {
		newest.Main, newest.Sub = newest.Main+by, 0
		tx.UnsafePut(schema.Key, mvcc.BucketKeyToBytes(newest, mvcc.NewRevBytes()), []byte{})
		mvcc.UnsafeSetScheduledCompact(tx, newest.Main)
	}
	tx.Unlock()
	db.ForceCommit()
	return errors.Join(err, db.Close())
}
