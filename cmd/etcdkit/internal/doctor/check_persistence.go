package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

// Bounds on databases.
const (
	muchOfQuota   = 0.80
	mostOfQuota   = 0.95
	worthDefrag   = 64 << 20 // bytes that a defragmentation would give back, at least
	halfIsFree    = 0.5
	alarmNOSPACE  = "NOSPACE"
	snapshotNames = "doctor"
)

// checkPersistence looks at what is on disk: whether a backup can be restored, and how the database and its history grow.
func checkPersistence(ctx context.Context, p *Patient) []Finding {
	all, _ := sites(ctx, p) // those that could not be listed are check topology's
	alive := living(all)
	if len(alive) == 0 {
		return []Finding{notSeen("databases", errors.Join(p.Unreached, all[0].err), "Connect as a user.")}
	}
	findings := append(backup(ctx, p), size(ctx, p, alive), fragments(alive))
	h, err := lookBack(ctx, p, alive)
	if err != nil {
		return append(findings, notSeen("compaction of history", err, "Grant it (etcdctl role grant-permission ROLE read --prefix "+ownPrefix+"), or name the members' metrics with --metrics-urls."))
	}
	return append(findings, h.finding())
}

// backup takes a snapshot and restores it. The file goes again: it holds all values, and was made to see whether one can be made.
func backup(ctx context.Context, p *Patient) []Finding {
	f := Finding{Subject: "snapshot that can be restored"}
	if p.Snapshot == "" {
		f.Verdict, f.Reason, f.Remedy = Skipped, "no snapshot was taken", "Examine with --snapshot DIR: it takes one, restores it there, compares it with the cluster, and deletes it."
		return []Finding{f}
	}
	saved, err := snapshot.Save(ctx, p.Privileged(), snapshot.Options{Dir: p.Snapshot, Name: snapshotNames, Verify: true})
	if err != nil {
		f.Evidence = []string{inLine(err)}
		switch {
		case denied(err):
			f.Verdict, f.Reason, f.Remedy = Skipped, "the user may not take one", "Examine with --root USER, who has the role root."
		case errors.Is(err, snapshot.ErrNoSpace), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
			f.Verdict, f.Reason, f.Remedy = Skipped, "there is no room for one", "Give --snapshot a directory that exists, with room for the database twice."
		case errors.Is(err, snapshot.ErrNotCompared):
			f.Verdict, f.Reason = Warn, "it can be restored, and no member could say whether it holds what the cluster does"
			f.Remedy = "Examine again; if it stays so, see what etcdkit snapshot save DIR --verify says."
		case ctx.Err() != nil:
			f.Verdict, f.Reason, f.Remedy = Skipped, "it was not done in time", "Run etcdkit snapshot save DIR --verify, which takes the time that it needs."
		default:
			f.Verdict, f.Reason = Fail, "no snapshot could be taken that can be restored"
			f.Remedy = "See which member it is (etcdkit snapshot save DIR --verify), and replace that one."
		}
		return []Finding{f}
	}
	f.Verdict, f.Reason = OK, "it was restored, and holds what the cluster holds"
	v := saved.Verification
	f.Evidence = []string{fmt.Sprintf("%s at revision %d, %s, hash %08x", snapshot.Bytes(saved.Size), v.Revision, cli.Plural(v.Keys, "key", "keys"), v.Hash)}
	apart := Finding{Verdict: Skipped, Subject: "what all members hold", Reason: "not all could be compared with the snapshot", Remedy: "Examine again when all answer: see check 4."}
	for _, c := range v.Compared {
		if c.Err != nil {
			apart.Evidence = append(apart.Evidence, hostOf(c.Endpoint)+": "+inLine(c.Err))
			continue
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: hash %08x, restored %08x", hostOf(c.Endpoint), c.Hash, c.Restored))
	}
	if err := os.Remove(saved.Path); err != nil {
		f.Verdict, f.Reason, f.Remedy = Warn, "it was restored, and could not be deleted: "+inLine(err), "Delete it: it holds all values, and the hashes of all passwords."
		return []Finding{f}
	}
	f.Evidence = append(f.Evidence, "deleted again; etcdkit snapshot save DIR --verify keeps one")
	if len(apart.Evidence) > 0 {
		return []Finding{f, apart}
	}
	return []Finding{f}
}

// size holds the databases against their quotas.
func size(ctx context.Context, p *Patient, alive []*site) Finding {
	f := Finding{Subject: "size of the database against its quota"}
	known, worst, alarm := false, 0.0, false
	for _, s := range alive {
		alarm = alarm || slices.ContainsFunc(s.status.Errors, func(e string) bool { return strings.Contains(e, alarmNOSPACE) })
		quota, from := quotaOf(ctx, p, s)
		if quota <= 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s, quota not known", s.name, snapshot.Bytes(s.status.DbSize)))
			continue
		}
		known, worst = true, max(worst, float64(s.status.DbSize)/float64(quota))
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s of %s (%s), quota as %s", s.name, snapshot.Bytes(s.status.DbSize), snapshot.Bytes(quota), share(s.status.DbSize, quota), from))
	}
	remedy := "Compact (etcdctl compaction REVISION), then etcdctl defrag one member at a time; or raise --quota-backend-bytes (8 GiB at most) on all members."
	switch {
	case !known:
		f.Verdict, f.Reason, f.Remedy = Skipped, "the quota is not known", "Say with --quota-backend-bytes what the members were started with."
	case worst >= mostOfQuota && !alarm: // with the alarm it is check health that fails
		f.Verdict, f.Reason, f.Remedy = Fail, "it is about to be full: then nothing can be written", remedy
	case worst >= muchOfQuota || alarm:
		f.Verdict, f.Reason, f.Remedy = Warn, "little is left of the quota", remedy
		if alarm {
			f.Reason = "the alarm NOSPACE is on: see check 4"
		}
	default:
		f.Verdict, f.Reason = OK, "there is room"
	}
	return f
}

// quotaOf is a member's quota, and who says so: itself since etcd 3.6, its metrics, or a flag.
func quotaOf(ctx context.Context, p *Patient, s *site) (quota int64, from string) {
	if s.status.DbSizeQuota > 0 {
		return s.status.DbSizeQuota, "it says itself"
	}
	if g, err := scrape(ctx, p, s); err == nil {
		if v, ok := g.value("etcd_server_quota_backend_bytes"); ok && v > 0 {
			return int64(v), "etcd_server_quota_backend_bytes"
		}
	}
	return p.Quota, "given"
}

// fragments looks at how much of the files is free.
func fragments(alive []*site) Finding {
	f := Finding{Verdict: OK, Subject: "fragmentation", Reason: "the files are not much larger than what is in them"}
	for _, s := range alive {
		free := s.status.DbSize - s.status.DbSizeInUse
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s, %s of it free (%s)", s.name, snapshot.Bytes(s.status.DbSize), snapshot.Bytes(free), share(free, s.status.DbSize)))
		if free >= worthDefrag && float64(free) >= halfIsFree*float64(s.status.DbSize) {
			f.Verdict, f.Reason = Warn, "more than half of a file is free, and counts against the quota"
			f.Remedy = "Defragment one member at a time, the leader last, as each answers nothing meanwhile: etcdctl --endpoints=MEMBER defrag."
		}
	}
	return f
}
