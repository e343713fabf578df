package file

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAFileIsWhatWasWrittenLastAndOfThisUserAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(path, []byte("before, and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("after")); err != nil {
		t.Fatal(err)
	}
	data, at, err := Read(path, 5)
	if err != nil || string(data) != "after" || time.Since(at) > time.Minute {
		t.Errorf("%q of %v, %v", data, at, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: readable by others", info.Mode(), err)
	}
	then := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
	if _, at, err := Read(path, 5); err != nil || !at.Equal(then) {
		t.Errorf("modified at %v, %v; want %v", at, err, then)
	}
}

func TestAFileThatIsNotThereOrTooLargeIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	if _, _, err := Read(path, 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
	if err := Replace(path, []byte("123456")); err != nil {
		t.Fatal(err)
	}
	if data, _, err := Read(path, 5); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("too large: %q, %v", data, err)
	}
}

// What cannot be written leaves nothing behind, and what was there as it was.
func TestAReplacementThatFailsLeavesAllAsItWas(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "copy")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new")); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: more than there was", entries, err)
	}
	if err := Replace(filepath.Join(dir, "nowhere", "copy"), []byte("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
}

// Processes may share a copy.
func TestAReaderNeverFindsHalfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 200_000)}
	if err := Replace(path, contents[0]); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, content := range contents {
		writers.Go(func() {
			for range 30 {
				if err := Replace(path, content); err != nil {
					t.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { writers.Wait(); close(written) }()
	for reads := 0; ; reads++ {
		data, _, err := Read(path, 1<<20)
		if err != nil || !bytes.Equal(data, contents[0]) && !bytes.Equal(data, contents[1]) {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		select {
		case <-written:
			t.Logf("%d reads", reads)
			return
		default:
		}
	}
}
