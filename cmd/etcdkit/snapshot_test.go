package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newSnapshotShell is a shell of snapshot commands on an etcd of its own that holds four megabytes.
func newSnapshotShell(t *testing.T) *shell {
	t.Helper()
	s := shellOn(t, ownEtcd(t))
	s.kind = "snapshot"
	for n := range 4 {
		s.put(fmt.Sprintf("large/%d", n), strings.Repeat("x", 1<<20))
	}
	return s
}

// snapshotNames are what is in a directory.
func snapshotNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestASnapshotIsSavedVerifiedListedAndTheOldOnesGo(t *testing.T) {
	t.Parallel()
	s, dir := newSnapshotShell(t), t.TempDir()
	if r := s.run("ls", dir); r.code != 0 || r.out != "" || r.errs != "no snapshots\n" {
		t.Errorf("%+v", r)
	}
	r := s.run("save", dir)
	first := strings.TrimSuffix(r.out, "\n")
	if r.code != 0 || filepath.Dir(first) != dir || !strings.HasSuffix(first, "-r5.db") || !strings.Contains(r.errs, "MiB at revision 5; not verified: --verify") {
		t.Fatalf("%+v", r)
	}
	old := filepath.Join(dir, "etcd-20260101T000000Z-r3.db")
	damaged := filepath.Join(dir, "etcd-20260102T000000Z-r3.db")
	copied, err := os.ReadFile(first)
	if err == nil {
		err = os.WriteFile(old, copied, 0o600)
	}
	if err == nil {
		err = os.WriteFile(damaged, copied[:len(copied)-1000], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.prints([]string{"ls", dir}, "SNAPSHOT ", "TAKEN ", "AGE ", "REVISION  SIZE\n", "etcd-20260101T000000Z-r3.db  2026-01-01T00:00:00Z ", " 3  ", filepath.Base(first), " 5  ", "MiB\n")
	checked := s.run("ls", dir, "--check", "-o", "json")
	if all := objectsOf(t, checked.out); checked.code != 3 || len(all) != 3 || all[0]["sum"] != "ok" || !strings.Contains(all[1]["sum"].(string), "damaged: ") || all[2]["revision"] != 5.0 ||
		checked.errs != "etcdkit snapshot ls: damaged: 1 of 3\n" {
		t.Errorf("%+v", checked)
	}
	o := s.object("save", dir, "--verify", "--keep", "7d")
	members := o["members"].([]any)
	if o["verified"] != true || o["keys"] != 4.0 || o["revision"] != 5.0 || len(members) != 1 || members[0].(map[string]any)["equal"] != true || o["hash"] != members[0].(map[string]any)["hash"] {
		t.Errorf("%v", o)
	}
	if deleted, spared := o["deleted"].([]any), o["spared"].([]any); len(deleted) != 1 || deleted[0] != old || len(spared) != 1 || spared[0] != damaged {
		t.Errorf("%v", o)
	}
	if got := snapshotNames(t, dir); len(got) < 2 { // two of one second and one revision are one
		t.Errorf("%q", got)
	}
	r = s.run("save", dir, "--verify", "--keep", "1d12h", "--name", "other")
	if r.code != 0 || !strings.Contains(r.errs, "restored at revision 5: 4 keys, hash "+o["hash"].(string)+", the same as on 1 of 1 member\n") || strings.Contains(r.errs, "kept") {
		t.Errorf("%+v", r)
	}
	s.prints([]string{"verify", first}, "restored at revision 5: 4 keys, hash "+o["hash"].(string)+"\n")
	if o := s.object("verify", first, "--compare", "--scratch", t.TempDir()); o["verified"] != true || o["file"] != first || len(o["members"].([]any)) != 1 {
		t.Errorf("%v", o)
	}
}

func TestASnapshotThatDoesNotVerifyHasItsOwnExitCode(t *testing.T) {
	t.Parallel()
	s, dir := newSnapshotShell(t), t.TempDir()
	file := strings.TrimSuffix(s.ok("save", dir), "\n")
	s.put("later", "")
	if _, err := s.client().Compact(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if r := s.run("verify", file, "--compare"); r.code != 3 || !strings.Contains(r.errs, "could not be compared with the cluster: ") || !strings.Contains(r.errs, "compacted") || !strings.HasPrefix(r.out, "restored at revision 5") {
		t.Errorf("%+v", r)
	}
	other := shellOn(t, ownEtcd(t))
	other.kind = "snapshot"
	for n := range 6 {
		other.put(fmt.Sprint(n), "something else")
	}
	if r := other.run("verify", file, "--compare", "-o", "json"); r.code != 3 || !strings.Contains(r.errs, "differs from the cluster: ") || strings.Count(r.errs, "\n") != 1 || objectsOf(t, r.out)[0]["verified"] != false {
		t.Errorf("%+v", r)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(3, "damaged: its SHA-256 is ", "verify", file)
}

func TestABadCommandLineOfSnapshotIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s, dir := shellOn(t, "127.0.0.1:1"), t.TempDir()
	s.kind = "snapshot"
	for words, args := range map[string][]string{
		`unknown command "bogus"`:           {"bogus"},
		"save: DIR is missing":              {"save"},
		`save: unexpected argument "b"`:     {"save", "a", "b"},
		"--keep week: write 7d, 36h":        {"save", dir, "--keep", "week"},
		"--keep -7d: write 7d, 36h":         {"save", dir, "--keep=-7d"},
		"--keep 1d-2h: write 7d, 36h":       {"save", dir, "--keep", "1d-2h"},
		"--keep 0s: it must be more than 0": {"save", dir, "--keep", "0s"},
		`name "a/b": it must be 1 to 100`:   {"save", dir, "--name", "a/b"},
		"verify: FILE is missing":           {"verify"},
		"ls: DIR is missing":                {"ls"},
		"-o yaml: it must be table or json": {"ls", dir, "-o", "yaml"},
		"unknown flag: --compare":           {"save", dir, "--compare"},
	} {
		s.fails(2, words, args...)
	}
	s.fails(1, "no member answers: 127.0.0.1:1: ", "save", dir, "--dial-timeout", "300ms")
	s.fails(1, "verify: /none: no such file or directory", "verify", "/none")
	s.fails(1, "ls: open /none: no such file or directory", "ls", "/none")
	s.fails(3, "damaged: it is no file", "verify", dir)
	up := shellOn(t, sharedEtcd(t))
	up.kind = "snapshot"
	up.fails(1, "save: /none: no such file or directory", "save", "/none")
	up.fails(1, "save: /dev/null: it is no directory", "save", "/dev/null")
	out, errs, code := do(t, "snapshot")
	for _, words := range []string{"Exit codes:", "  3  the snapshot did not verify", "ETCDCTL_ENDPOINTS", "  save ", "  verify "} {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}

// A snapshot takes root; who is it not is told so, and nothing is left.
func TestASnapshotTakesTheRoleRoot(t *testing.T) {
	t.Parallel()
	w, dir := newRBACWorld(t), t.TempDir()
	if _, err := w.root.UserAdd(t.Context(), "ada", rbacPassword); err != nil {
		t.Fatal(err)
	}
	s := shellOn(t, w.endpoint)
	s.kind = "snapshot"
	s.fails(1, "permission denied: snapshots and hashes are for users with the role root", "save", dir, "--user", "ada:"+rbacPassword)
	s.fails(1, "authentication failed, invalid user ID or password", "save", dir, "--user", "root:wrong")
	s.fails(1, "user name is empty", "save", dir)
	if got := snapshotNames(t, dir); len(got) != 0 {
		t.Errorf("%q is left", got)
	}
	s.ok("save", dir, "--verify", "--user", "root:"+rbacPassword)
}

// stalling is a way to an etcd that stalls after so many bytes of answers.
func stalling(t *testing.T, endpoint string, after int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://"))
			if err != nil {
				_ = c.Close()
				continue
			}
			t.Cleanup(func() { _, _ = c.Close(), to.Close() })
			go func() { _, _ = io.Copy(to, c) }()
			go func() { _, _ = io.CopyN(c, to, after) }()
		}
	}()
	return l.Addr().String()
}

// part waits until a snapshot is under way in a directory, and returns the directory that holds it.
func part(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		files, err := filepath.Glob(filepath.Join(dir, ".etcdkit-snapshot-*", "snapshot.db"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 {
			if info, err := os.Stat(files[0]); err == nil && info.Size() > 1<<20 {
				return filepath.Dir(files[0])
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("nothing is saved: %q", snapshotNames(t, dir))
		}
	}
}

func TestASnapshotThatIsInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	s, dir := newSnapshotShell(t), t.TempDir()
	slow := stalling(t, s.endpoint, 2<<20)
	r := launch(t, "snapshot", "save", dir, "--verify", "--endpoints", slow)
	left := part(t, dir)
	if info, err := os.Stat(left); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	r.signal(syscall.SIGINT)
	out, code := r.wait()
	if code != 130 || out != "" || r.errs.String() != "etcdkit snapshot save: interrupted\n" {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, &r.errs)
	}
	r.nothingLeft()
	if got := snapshotNames(t, dir); len(got) != 0 {
		t.Errorf("%q is left", got)
	}

	// One that was killed leaves its directory, under no name that a snapshot has, and a later one removes it.
	r = launch(t, "snapshot", "save", dir, "--endpoints", slow)
	left = part(t, dir)
	r.signal(syscall.SIGKILL)
	r.wait()
	if all := s.ok("ls", dir); all != "" {
		t.Errorf("%q", all)
	}
	ago := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(left, "in-use"), ago, ago); err != nil {
		t.Fatal(err)
	}
	s.ok("save", dir)
	if got := snapshotNames(t, dir); len(got) != 1 || strings.HasPrefix(got[0], ".") {
		t.Errorf("%q", got)
	}
}

// What a member sends must be whole: a stream that is cut off in the middle is an error, and no file.
func TestASnapshotThatIsCutOffIsNone(t *testing.T) {
	t.Parallel()
	s, dir := newSnapshotShell(t), t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", strings.TrimPrefix(s.endpoint, "http://"))
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, c) }()
			go func() {
				_, _ = io.CopyN(c, to, 2<<20)
				_, _ = c.Close(), to.Close()
			}()
		}
	}()
	var out, errs bytes.Buffer
	code := execute([]string{"snapshot", "save", dir, "--endpoints", l.Addr().String()}, strings.NewReader(""), &out, &errs)
	if code != 1 || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("code %d, stdout %q, stderr %q", code, &out, &errs)
	}
	if got := snapshotNames(t, dir); len(got) != 0 {
		t.Errorf("%q is left", got)
	}
}
