package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// copyIn waits until the only copy in a directory holds a text, and returns the file's path.
func copyIn(t *testing.T, dir, text string) string {
	t.Helper()
	var path string
	etcdtest.Eventually(t, soon, "the copy holds "+text, func(context.Context) error {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(files) != 1 {
			return errors.New("there is none")
		}
		path = files[0]
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(data), text) {
			return errors.New("it holds " + string(data))
		}
		return nil
	})
	return path
}

// apollo#3494, agollo#148: a process that starts while etcd is down works with what it knew when it was last running, says so, and
// heals by itself.
func TestAValueStartsFromItsCopyOnDisk(t *testing.T) {
	c := etcdtest.New(t, nil)
	opts := &config.Options[int]{CacheDir: filepath.Join(t.TempDir(), "copies")}
	revision := put(t, c.Oracle(0), "/config/port", "8080")
	before := open(t, c.Link(0).Client(), "/config/port", opts)
	path := copyIn(t, opts.CacheDir, `"Revision":`)
	before.Close()
	closed := time.Now()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: readable by others", info.Mode(), err)
	}

	c.Stop()
	v := open(t, c.Link(0).Client(), "/config/port", opts)
	s := v.Snapshot()
	if s.Value != 8080 || s.Revision != revision || s.Source != config.Disk || !errors.Is(v.Err(), config.ErrNotCurrent) {
		t.Errorf("without etcd: %+v, %v", s, v.Err())
	}
	if ago := closed.Sub(s.SyncedAt); ago < -time.Second || ago > 3*time.Second || s.Age() < time.Since(closed)-3*time.Second {
		t.Errorf("the copy is from %v before the value was closed, %v old", ago, s.Age())
	}
	changed := changes(t, v)
	next(t, changed)

	c.Restart()
	becomes(t, v, nil)
	if s := v.Snapshot(); s.Source != config.Live || s.Revision != revision {
		t.Errorf("etcd is back: %+v", s)
	}
	put(t, c.Oracle(0), "/config/port", "9090")
	if s := next(t, changed); s.Value != 9090 || s.Source != config.Live {
		t.Errorf("the next: %+v", s)
	}
}

// valkey-operator: the config you rejected becomes the restart-time config. Nor does a restart make of a deletion, or of a bad
// document, what the process that was running did not: it goes on with the last good one.
func TestARestartBeginsWhereTheProcessStood(t *testing.T) {
	for name, hurt := range map[string]struct {
		do func(*testing.T, *etcdtest.Cluster)
		is error
	}{
		"refused": {func(t *testing.T, c *etcdtest.Cluster) { put(t, c.Oracle(0), "port", "-1") }, config.ErrRefused},
		"deleted": {func(t *testing.T, c *etcdtest.Cluster) { remove(t, c.Oracle(0), "port") }, config.ErrAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.New(t, nil)
			initial := 1
			opts := &config.Options[int]{CacheDir: t.TempDir(), Default: &initial, Validate: func(n int) error {
				if n < 1 {
					return errors.New("must be positive")
				}
				return nil
			}}
			revision := put(t, c.Oracle(0), "port", "8080")
			before := open(t, c.Client(), "port", opts)
			copyIn(t, opts.CacheDir, "ODA4MA")
			hurt.do(t, c)
			becomes(t, before, hurt.is)
			before.Close()

			check := func(t *testing.T, without *config.Options[int], is error) {
				t.Helper()
				v := open(t, c.Client(), "port", without)
				if s := v.Snapshot(); s.Value != 8080 || s.Revision != revision || s.Source != config.Disk || !errors.Is(v.Err(), is) {
					t.Errorf("%+v, %v", s, v.Err())
				}
				v.Close()
			}
			check(t, opts, hurt.is)
			plain := *opts
			plain.Default = nil
			check(t, &plain, hurt.is)
			c.Stop()
			check(t, opts, config.ErrNotCurrent)
			c.Restart()
			copyIn(t, opts.CacheDir, "ODA4MA")
		})
	}
}

func TestACopyThatCannotBeUsedIsReportedAndNotUsed(t *testing.T) {
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "port", "8080")
	core, logs := observer.New(zap.WarnLevel)
	opts := &config.Options[int]{CacheDir: t.TempDir(), Logger: zap.New(core)}
	open(t, c.Client(), "port", opts).Close()
	path := copyIn(t, opts.CacheDir, "ODA4MA")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	for what, text := range map[string]string{
		"half":             string(good[:len(good)/2]),
		"empty":            "",
		"of another key":   strings.Replace(string(good), `"port"`, `"tort"`, 1),
		"of what is wrong": strings.Replace(string(good), "ODA4MA==", "aHVudGVyMg==", 1), // hunter2
		"without entries":  `{"Keys":["port"],"Revision":7}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if v, err := config.Open(ctx, c.Client(), "port", opts); err == nil {
			t.Errorf("%s: started with %d", what, v.Get())
			v.Close()
		}
		cancel()
		entries := logs.TakeAll()
		if len(entries) == 0 || !strings.Contains(entries[0].Message, "cannot be used") {
			t.Errorf("%s: logged %v", what, entries)
		}
		for _, e := range entries {
			if strings.Contains(e.Message, "hunter2") || strings.Contains(errorOf(e.ContextMap()), "hunter2") {
				t.Errorf("the log tells of what is in the copy: %v", e)
			}
		}
	}
}

func errorOf(fields map[string]any) string {
	text, _ := fields["error"].(string)
	return text
}

// nacos-sdk-go#539, DESIGN 2.2: without a majority a member still knows what it knew. It is taken, and marked.
func TestWithoutAMajorityAValueStartsFromWhatAMemberKnows(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	revision := put(t, c.Client(), "port", "8080")
	leader := c.WaitLeader()
	left := (leader + 2) % 3
	etcdtest.WaitKey(t, soon, c.ClientTo(left), "port")
	gone := []int{leader, (leader + 1) % 3}
	c.Stop(gone...)
	initial := 1
	v := open(t, c.ClientTo(left), "port", &config.Options[int]{Default: &initial})
	if s := v.Snapshot(); s.Value != 8080 || s.Revision != revision || s.Source != config.Stale || !errors.Is(v.Err(), config.ErrNotCurrent) {
		t.Errorf("from a single member: %+v, %v", s, v.Err())
	}
	// That it knows of no document says nothing: a default would be a guess.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if v, err := config.Open(ctx, c.ClientTo(left), "other", &config.Options[int]{Default: &initial}); err == nil {
		t.Errorf("started with the default: %d", v.Get())
		v.Close()
	}
	changed := changes(t, v)
	next(t, changed)
	c.Restart(gone...)
	becomes(t, v, nil)
	put(t, c.Client(), "port", "9090")
	if s := next(t, changed); s.Value != 9090 || s.Source != config.Live {
		t.Errorf("with a majority again: %+v", s)
	}
}

// A member that was away for long knows less than the copy does.
func TestACopyThatIsNewerThanWhatAMemberKnowsIsTaken(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	put(t, c.Client(), "port", "8080")
	leader := c.WaitLeader()
	behind := (leader + 1) % 3
	etcdtest.WaitKey(t, soon, c.ClientTo(behind), "port")
	c.Stop(behind)
	opts := &config.Options[int]{CacheDir: t.TempDir()}
	before := open(t, c.ClientTo(leader), "port", opts)
	revision := put(t, c.ClientTo(leader), "port", "9090")
	becomes(t, before, nil)
	copyIn(t, opts.CacheDir, "OTA5MA")
	before.Close()
	c.Stop(leader, (leader+2)%3)
	c.Restart(behind)
	v := open(t, c.ClientTo(behind), "port", opts)
	if s := v.Snapshot(); s.Value != 9090 || s.Revision != revision || s.Source != config.Disk {
		t.Errorf("%+v", s)
	}
}
