package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

const (
	childName = "etcdkit restore"

	// startWithin bounds how long a member takes to serve what it has been given.
	startWithin = 2 * time.Minute

	// dataDir, clientSocket and peerSocket are in the working directory of the process, which nobody else can enter.
	dataDir      = "restored"
	clientSocket = "unix://client"
	peerSocket   = "unix://peer"
)

func init() { etcdproc.Child(childName, restore) }

// restore is a process of its own, for what others have written may be anything. It looks into a snapshot, restores it, runs a
// member on that, and answers with its hashes until it is ended.
func restore() {
	var t task
	err := json.Unmarshal([]byte(os.Args[1]), &t)
	if err == nil {
		err = t.run()
	}
	if err != nil {
		fmt.Println("failed " + fmt.Sprintf("%.1000q", err.Error()))
	}
}

func tell(what string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Println(what + " " + string(text))
	return err
}

func (t task) run() error {
	l, err := lookInto(t.File)
	if err != nil {
		return err
	}
	if err := tell("look", l); err != nil || t.Listen == "" {
		return err
	}
	etcdutl := snapshot.NewV3(zap.NewNop())
	status, err := etcdutl.Status(t.File)
	if err != nil {
		return err
	}
	if err := etcdutl.Restore(snapshot.RestoreConfig{
		SnapshotPath: t.File, Name: "restored", OutputDataDir: dataDir,
		PeerURLs: []string{peerSocket}, InitialCluster: "restored=" + peerSocket, InitialClusterToken: "restored",
	}); err != nil {
		return err
	}
	e, revision, err := member()
	if err != nil {
		return err
	}
	hash, err := hashAt(e, revision)
	if err != nil {
		return err
	}
	if err := tell("restored", Verification{
		Revision: revision, Compact: max(hash.CompactRevision, 0), Keys: status.TotalKey, Size: status.TotalSize, Version: status.Version, Hash: hash.Hash,
	}); err != nil {
		return err
	}
	return answer(e)
}

// lookInto finds the newest revision in a database: that of its last key or, if that has been compacted away, of the compaction.
func lookInto(path string) (l look, err error) {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return l, err
	}
	defer func() { _ = db.Close() }() // it was only read
	err = db.View(func(tx *bolt.Tx) error {
		keys, meta := tx.Bucket(schema.Key.Name()), tx.Bucket(schema.Meta.Name())
		if keys == nil || meta == nil {
			return errors.New("it has no keys of etcd")
		}
		l.Revision = 1 // that of an etcd to which nothing was written
		last, _ := keys.Cursor().Last()
		for _, r := range [][]byte{last, meta.Get(schema.FinishedCompactKeyName), meta.Get(schema.ScheduledCompactKeyName)} {
			if len(r) > 0 {
				l.Revision = max(l.Revision, mvcc.BytesToRev(r).Main)
			}
		}
		return nil
	})
	return l, err
}

// member runs one on what is restored, and returns its revision before it has done anything itself.
func member() (*embed.Etcd, int64, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "restored", dataDir
	client, _ := url.Parse(clientSocket)
	peer, _ := url.Parse(peerSocket)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.InitialCluster, cfg.InitialClusterToken = "restored="+peerSocket, "restored"
	cfg.QuotaBackendBytes = -1 // whatever that of the cluster is
	cfg.UnsafeNoFsync = true   // it is thrown away
	wal.SegmentSizeBytes = 8 << 20
	cfg.LogLevel, cfg.LogOutputs = "warn", []string{"member.log"}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, 0, err
	}
	revision := e.Server.KV().Rev()
	select {
	case <-e.Server.ReadyNotify():
		return e, revision, nil
	case err := <-e.Err():
		return nil, 0, err
	case <-time.After(startWithin):
		return nil, 0, fmt.Errorf("the member that it is restored into does not serve after %v", startWithin)
	}
}

// answer answers with hashes, one for each line of standard input, until that ends.
func answer(e *embed.Etcd) error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var revision, compact int64
		if _, err := fmt.Sscan(in.Text(), &revision, &compact); err != nil {
			return err
		}
		hash, err := hashAt(e, revision)
		if err == nil && hash.CompactRevision < compact {
			ctx, cancel := context.WithTimeout(context.Background(), startWithin)
			_, err = e.Server.Compact(ctx, &pb.CompactionRequest{Revision: compact, Physical: true})
			cancel()
			if err == nil {
				hash, err = hashAt(e, revision)
			}
		}
		if err != nil {
			return err
		}
		if err := tell("hash", hash.Hash); err != nil {
			return err
		}
	}
	return nil
}

// remembered is how many hashes a member remembers of compactions, those of the highest revisions.
const remembered = 10

// hashAt is HashKV of what is there. Of the revision of a compaction a member would tell what it was before that.
func hashAt(e *embed.Etcd, revision int64) (mvcc.KeyValueHash, error) {
	hashes := e.Server.KV().HashStorage()
	for range remembered {
		hashes.Store(mvcc.KeyValueHash{Revision: math.MaxInt64})
	}
	hash, _, err := hashes.HashByRev(revision)
	return hash, err
}
