package config_test

import (
	"testing"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// F12: a backup is restored as etcd recommends it, with a revision that is higher than any that was seen. Nothing tells of the step
// back but that the key holds what it held before; it is taken, and it is of another history. What has not changed is not told again.
func TestABackupWithABumpedRevisionIsTakenToo(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	etcd := c.Client()
	old := put(t, etcd, "port", "8080")
	put(t, etcd, "level", "1")
	b := c.Backup()
	put(t, etcd, "port", "9090")
	put(t, etcd, "new", "1")
	port, level, absent := open[int](t, c.Client(), "port", nil), open[int](t, c.Client(), "level", nil), open[int](t, c.Client(), "new", nil)
	changed, same := changes(t, port), changes(t, level)
	next(t, changed)
	next(t, same)

	const by = 1_000_000
	c.RestoreBumped(b, by)
	if at := c.Revision(); at < by {
		t.Fatalf("etcd is at revision %d: it was not bumped", at)
	}
	if s := next(t, changed); s.Value != 8080 || s.Revision != old || s.Generation != 1 {
		t.Errorf("restored: %+v, put as %d", s, old)
	}
	becomes(t, port, nil)
	becomes(t, level, nil)
	becomes(t, absent, config.ErrAbsent)
	if absent.Get() != 1 {
		t.Errorf("the value is %d", absent.Get())
	}
	revision := put(t, etcd, "port", "7070")
	if s := next(t, changed); s.Value != 7070 || s.Revision != revision || revision <= by {
		t.Errorf("after the restore: %+v, put as %d", s, revision)
	}
	revision = put(t, etcd, "level", "2")
	if s := next(t, same); s.Value != 2 || s.Revision != revision {
		t.Errorf("after the restore: %+v, put as %d", s, revision)
	}
}

// F12: a process starts with a copy from before a restore. What etcd has is of another history than the copy: older, and the newest all
// the same.
func TestACopyFromBeforeARestoreIsOfAnotherHistory(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	etcd := c.Client()
	old := put(t, etcd, "port", "8080")
	b := c.Backup()
	newer := put(t, etcd, "port", "9090")
	opts := &config.Options[int]{CacheDir: t.TempDir()}
	open(t, c.Client(), "port", opts).Close()
	copyIn(t, opts.CacheDir, "OTA5MA")

	link := c.Link(0)
	link.Cut()
	c.Restore(b)
	v := open(t, link.Client(), "port", opts)
	changed := changes(t, v)
	if s := next(t, changed); s.Value != 9090 || s.Revision != newer || s.Source != config.Disk {
		t.Errorf("cut off: %+v, put as %d", s, newer)
	}
	before := v.Snapshot()
	link.Heal()
	if s := next(t, changed); s.Value != 8080 || s.Revision != old || s.Source != config.Live || s.Generation <= before.Generation {
		t.Errorf("%+v came after %+v: revisions fall within one generation", s, before)
	}
	becomes(t, v, nil)
	revision := put(t, etcd, "port", "7070")
	if s := next(t, changed); s.Value != 7070 || s.Revision != revision || s.Generation != 1 {
		t.Errorf("next: %+v, put as %d", s, revision)
	}
	copyIn(t, opts.CacheDir, "NzA3MA")
}
