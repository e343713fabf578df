package scratch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// made makes a directory as New does, with a lock that is free if it is given back, of an age.
func made(t *testing.T, prefix string, age time.Duration, locked bool) string {
	t.Helper()
	d, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-age)
	if err := os.Chtimes(filepath.Join(d.Path, lockFile), then, then); err != nil {
		t.Fatal(err)
	}
	if locked {
		t.Cleanup(func() { d.lock.Close() })
	} else if err := d.lock.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(d.Path)
}

func TestADirectoryThatIsLeftBehindIsRemovedByTheNext(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	names := func() []string {
		entries, err := os.ReadDir(os.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	used := made(t, "x", time.Hour, true)
	young := made(t, "x", 0, false)
	left := made(t, "x", time.Hour, false)
	other := made(t, "y", time.Hour, false) // removes nothing of x's
	if got := names(); len(got) != 4 {
		t.Fatalf("there are %v", got)
	}

	next, err := New("x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{used, young, other, filepath.Base(next.Path)}
	slices.Sort(want)
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v, without %s", got, want, left)
	}
	if _, err := fileutil.TryLockFile(filepath.Join(next.Path, lockFile), os.O_WRONLY, 0o600); err == nil {
		t.Error("it can be locked by others")
	}
	if err := next.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(next.Path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestADirectoryThatIsKeptStays(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d, err := New("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, "log"), []byte("why"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept, err := d.Keep()
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(kept, old, old); err != nil {
		t.Fatal(err)
	}
	made(t, "x", 0, true)
	if log, err := os.ReadFile(filepath.Join(kept, "log")); err != nil || string(log) != "why" {
		t.Errorf("%q, %v", log, err)
	}
}
