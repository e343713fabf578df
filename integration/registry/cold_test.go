package registry_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

// only is a client of one member, for the test's time.
func only(t *testing.T, c *etcdtest.Cluster, member int) *clientv3.Client {
	t.Helper()
	return c.Link(member).Client()
}

// A reader starts while etcd is down, as its machine did, and works with what it knew when it was last running.
func TestAViewStartsFromItsCopyOnDisk(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	opts := &registry.ViewOptions{CacheDir: filepath.Join(t.TempDir(), "copies")}
	announce(t, c.Oracle(0), "services/mail/a", "10.0.0.7:80")
	announce(t, c.Oracle(0), "services/mail/b", "10.0.0.8:80")
	before := open(t, only(t, c, 0), opts)
	revision := sees(t, soon, before, "a", "b").Revision
	before.Close()
	closed := time.Now()

	c.Stop()
	cli := only(t, c, 0)
	began := time.Now()
	v := open(t, cli, opts)
	t.Logf("opened in %v", time.Since(began))
	s := v.Snapshot()
	if s.Source != registry.Disk || len(s.Instances) != 2 || s.Instances[1].Addr != "10.0.0.8:80" || s.Revision != revision {
		t.Errorf("%v, %s, revision %d; want both, from the copy at %d", list(s), s.Source, s.Revision, revision)
	}
	if age := closed.Sub(s.SyncedAt); age < -time.Second || age > 3*time.Second {
		t.Errorf("the copy is from %v before the view was closed", age)
	}
	if v.Err() == nil {
		t.Error("it says that nothing is wrong")
	}
	second := open(t, cli, opts)
	if got := second.Snapshot().Source; got != registry.Disk {
		t.Errorf("another view: %s", got)
	}

	c.Restart()
	c.Delete("services/mail/b")
	sees(t, soon+5*time.Second, v, "a")
}

func TestACopyThatCannotBeUsedIsReportedAndNotUsed(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	dir := t.TempDir()
	opts := &registry.ViewOptions{CacheDir: dir}
	announce(t, c.Oracle(0), "services/mail/a", "10.0.0.7:80")
	v := open(t, only(t, c, 0), opts)
	sees(t, soon, v, "a")
	v.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: readable by others", info.Mode(), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	cli := only(t, c, 0)
	for what, content := range map[string]string{
		"half":                 string(text[:len(text)/2]),
		"of another service":   strings.Replace(string(text), "services/mail/", "services/other/", 1),
		"nothing":              "",
		"an instance that bad": strings.Replace(string(text), "10.0.0.7:80", "10.0.0.7", 1),
	} {
		if err := os.WriteFile(files[0], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		v, err := registry.Watch(ctx, cli, "mail", &registry.ViewOptions{CacheDir: dir, Logger: zap.New(core)})
		cancel()
		if err == nil {
			t.Errorf("%s: starts with %v", what, list(v.Snapshot()))
			v.Close()
		}
		if logs.Len() == 0 && what != "an instance that bad" {
			t.Errorf("%s: nothing is said", what)
		}
	}
}

// Two of three members are gone. The third one cannot say what is current, but what it knows is better than nothing; and that
// it knows of nobody is not.
func TestAViewStartsFromASingleMember(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	announce(t, c.Oracle(0), "services/mail/a", "10.0.0.7:80")
	first := open(t, only(t, c, 0), nil) // so that the member is known to have it
	sees(t, soon, first, "a")
	first.Close()
	c.Stop(1, 2)
	cli := only(t, c, 0)
	began := time.Now()
	v := open(t, cli, nil)
	s := v.Snapshot()
	t.Logf("opened in %v", time.Since(began))
	if s.Source != registry.Stale || len(s.Instances) != 1 || !s.SyncedAt.IsZero() {
		t.Errorf("%v, %s, synced at %v", list(s), s.Source, s.SyncedAt)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if none, err := registry.Watch(ctx, cli, "nobody", nil); err == nil {
		t.Errorf("nobody, by the word of a single member: %v", list(none.Snapshot()))
		none.Close()
	}
	c.Restart()
	sees(t, soon+5*time.Second, v, "a")
}
