package etcdtest

import (
	"os"
	"path/filepath"
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
	c.Stop()
	for i, m := range c.core.members {
		if err := os.RemoveAll(m.DataDir); err != nil {
			c.t.Fatalf("etcdtest: restore: %v", err)
		}
		if err := os.CopyFS(m.DataDir, os.DirFS(b.dirs[i])); err != nil {
			c.t.Fatalf("etcdtest: restore: %v", err)
		}
	}
	c.Restart()
}
