package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

func TestMain(m *testing.M) {
	etcdproc.Main()
	os.Exit(m.Run())
}

// etcd starts one, with some history: a thousand keys, changes, deletions and a lease.
func etcd(t *testing.T, members int) (*etcdproc.Cluster, *clientv3.Client) {
	t.Helper()
	c, err := etcdproc.Start(t.Context(), etcdproc.Config{Members: members, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	client, err := c.Client(clientv3.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for hundred := range 10 {
		var ops []clientv3.Op
		for n := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("key/%04d", 100*hundred+n), strings.Repeat("v", 100)))
		}
		_, err := client.Txn(t.Context()).Then(ops...).Commit()
		must(t, err)
	}
	for n := range 20 {
		_, err := client.Put(t.Context(), "counter", fmt.Sprint(n))
		must(t, err)
	}
	lease, err := client.Grant(t.Context(), 60)
	must(t, err)
	_, err = client.Put(t.Context(), "leased", "", clientv3.WithLease(lease.ID))
	must(t, err)
	_, err = client.Delete(t.Context(), "key/000", clientv3.WithPrefix())
	must(t, err)
	return c, client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names are what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestASnapshotIsRestoredAndHoldsWhatEveryMemberHolds(t *testing.T) {
	t.Parallel()
	cluster, client := etcd(t, 3)
	dir := t.TempDir()
	s, err := snapshot.Save(t.Context(), client, snapshot.Options{Dir: dir, Verify: true})
	must(t, err)
	v := s.Verification
	if v == nil || v.Revision != s.Revision || v.Keys != 992 || v.Compact != 0 || len(v.Compared) != 3 || s.Version == "" || v.Version != s.Version {
		t.Fatalf("%+v, %+v", s, v)
	}
	for _, c := range v.Compared {
		if !c.Equal() || c.Hash != v.Hash {
			t.Errorf("%+v", c)
		}
	}
	if got := names(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], "etcd-2") || !strings.HasSuffix(got[0], fmt.Sprintf("Z-r%d.db", s.Revision)) {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(s.Path); err != nil || info.Mode() != 0o600 || info.Size() != s.Size {
		t.Errorf("%v, %v", info, err)
	}

	// The members compact, at times of their own, and go on: what is compared is compacted alike, as long as the revision is there.
	_, err = client.Compact(t.Context(), s.Revision-10)
	must(t, err)
	_, err = client.Put(t.Context(), "later", "")
	must(t, err)
	v, err = snapshot.Verify(t.Context(), s.Path, dir, client, nil)
	must(t, err)
	if len(v.Compared) != 3 || v.Compared[0].Compact != s.Revision-10 || v.Compared[0].Restored == v.Hash {
		t.Errorf("%+v", v)
	}
	now, err := client.Get(t.Context(), "later")
	must(t, err)
	_, err = client.Compact(t.Context(), now.Header.Revision) // and nothing is written after it
	must(t, err)
	v, err = snapshot.Verify(t.Context(), s.Path, dir, client, nil)
	if !errors.Is(err, snapshot.ErrNotCompared) || !strings.Contains(err.Error(), "compacted") || v.Keys != 992 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = snapshot.Verify(t.Context(), s.Path, dir, nil, nil); err != nil || len(v.Compared) != 0 || v.Revision != s.Revision {
		t.Errorf("%+v, %v", v, err)
	}
	// A snapshot of a compacted history is compared as well, the last revision included.
	if s, err = snapshot.Save(t.Context(), client, snapshot.Options{Dir: dir, Verify: true}); err != nil || s.Verification.Compact == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("%q", got)
	}
	// Members that were restarted remember nothing of the compaction, and one that has gone does not matter.
	_, err = client.Delete(t.Context(), "key/01", clientv3.WithPrefix())
	must(t, err)
	s, err = snapshot.Save(t.Context(), client, snapshot.Options{Dir: dir, Verify: true})
	must(t, err)
	_, err = client.Compact(t.Context(), s.Revision, clientv3.WithCompactPhysical())
	must(t, err)
	for i := range 2 {
		must(t, cluster.Kill(i))
		must(t, cluster.Restart(t.Context(), i))
	}
	must(t, cluster.Kill(2))
	v, err = snapshot.Verify(t.Context(), s.Path, dir, client, nil)
	if err != nil || v.Hash != s.Verification.Hash || v.Hash == v.Compared[2].Restored || !v.Compared[0].Equal() && !v.Compared[1].Equal() && !v.Compared[2].Equal() {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAMemberThatHoldsSomethingElseIsNamed(t *testing.T) {
	t.Parallel()
	_, client := etcd(t, 1)
	_, other := etcd(t, 1)
	_, err := other.Put(t.Context(), "key/0500", "not the same")
	must(t, err)
	_, err = client.Put(t.Context(), "key/0500", "the same")
	must(t, err)
	dir := t.TempDir()
	s, err := snapshot.Save(t.Context(), client, snapshot.Options{Dir: dir})
	must(t, err)
	for range 10 { // it has the revision, whenever the lease ended
		_, err = other.Put(t.Context(), "later", "")
		must(t, err)
	}
	_, err = snapshot.Verify(t.Context(), s.Path, dir, other, nil)
	if !errors.Is(err, snapshot.ErrDiffers) || !strings.Contains(err.Error(), other.Endpoints()[0]) {
		t.Errorf("%v", err)
	}
	both := client.Endpoints()[0]
	client.SetEndpoints(both, "127.0.0.1:1")
	v, err := snapshot.Verify(t.Context(), s.Path, dir, client, nil)
	if err != nil || len(v.Compared) != 2 || v.Compared[0].Equal() == v.Compared[1].Equal() {
		t.Errorf("one member that is down: %+v, %v", v, err)
	}
}

func TestADamagedFileIsToldOf(t *testing.T) {
	t.Parallel()
	_, client := etcd(t, 1)
	dir := t.TempDir()
	s, err := snapshot.Save(t.Context(), client, snapshot.Options{Dir: dir})
	must(t, err)
	whole, err := os.ReadFile(s.Path)
	must(t, err)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for what, content := range map[string][]byte{
		"a flipped bit": flipped, "cut off": whole[:len(whole)-4096], "no sum": whole[:len(whole)-32], "empty": nil, "text": []byte("what?\n"),
	} {
		path := filepath.Join(t.TempDir(), "x.db")
		must(t, os.WriteFile(path, content, 0o600))
		if _, err := snapshot.Verify(t.Context(), path, filepath.Dir(path), client, nil); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if got := names(t, filepath.Dir(path)); len(got) != 1 {
			t.Errorf("%s: %q is left", what, got)
		}
	}
	// One with a sum that is right, of pages that are not: the member that sent it had them.
	for _, from := range []int{0, 4096, len(whole) / 3} {
		bad := bytes.Clone(whole[:len(whole)-32])
		for n := from; n < len(bad); n += 7 {
			bad[n] ^= 0x55
		}
		path := filepath.Join(t.TempDir(), "x.db")
		must(t, os.WriteFile(path, summed(bad), 0o600))
		_, err := snapshot.Verify(t.Context(), path, filepath.Dir(path), client, nil)
		if !errors.Is(err, snapshot.ErrDamaged) || strings.Contains(err.Error(), "\n") {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

func TestOldSnapshotsAreDeletedAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := bytes.Repeat([]byte("p"), 4096)
	now := time.Now()
	at := func(name string, ago time.Duration) string {
		return fmt.Sprintf("%s-%s-r7.db", name, now.Add(-ago).UTC().Format("20060102T150405Z"))
	}
	const day = 24 * time.Hour
	for _, name := range []string{at("etcd", 10*day), at("etcd", 8*day), at("etcd", 6*day), at("etcd-eu", 10*day), "etcd-old.db", "etcd-20200101T000000Z.db", "etcd-20209901T000000Z-r1.db"} {
		must(t, os.WriteFile(filepath.Join(dir, name), summed(page), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, at("etcd", 9*day)), page, 0o600)) // damaged
	must(t, os.Mkdir(filepath.Join(dir, at("etcd", 20*day)), 0o700))
	p, err := snapshot.Prune(t.Context(), dir, "etcd", 7*day)
	must(t, err)
	if len(p.Deleted) != 2 || len(p.Spared) != 1 || filepath.Base(p.Spared[0].Path) != at("etcd", 9*day) {
		t.Errorf("%+v", p)
	}
	if got := names(t, dir); len(got) != 7 {
		t.Errorf("%q", got)
	}
	// However old it is, the newest stays.
	if p, err = snapshot.Prune(t.Context(), dir, "etcd", 0); err != nil || len(p.Deleted) != 0 || len(p.Spared) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}
