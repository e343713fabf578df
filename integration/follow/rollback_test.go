package follow_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// F12, W4 (etcd#14303, etcd#16028): a restored backup turns revisions back, and no call ends with an error. The view
// becomes what the backup holds, by a difference, and says once that history is another one.
func TestARestoredBackupIsADifferenceAndAnotherGeneration(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "a/stays", "1")
	put(t, c.Oracle(0), "a/changes", "1")
	put(t, c.Oracle(0), "a/comes back", "1")
	backup := c.Backup()
	put(t, c.Oracle(0), "a/changes", "2")
	put(t, c.Oracle(0), "a/goes", "1")
	del(t, c.Oracle(0), "a/comes back")
	put(t, c.Oracle(0), "a/changes", "3")

	j := attach(t, c.Client(), follow.Prefix("a/"))
	j.holds(t, soon, c.Oracle(0), "a/")
	for round := range int64(2) {
		before := j.count(isChange)
		c.Restore(backup)
		j.wait(t, 20*time.Second, "another generation", func() bool { return j.live && j.last.Generation == round+1 })
		j.holds(t, soon, c.Oracle(0), "a/")
		if n := j.count(isChange) - before; n != 1 {
			t.Errorf("%d changes for one restored backup", n)
		}
		j.mu.Lock()
		told := j.calls[len(j.calls)-2].change
		j.mu.Unlock()
		if told == nil || len(told.Events) != 3 || told.Revision > backup.Revision() {
			t.Errorf("want the difference in three keys at revision %d:\n%s", backup.Revision(), j.tail())
		}
		// History goes on, and differently.
		put(t, c.Oracle(0), "a/changes", fmt.Sprint("other", round))
		put(t, c.Oracle(0), "a/goes", fmt.Sprint("other", round))
		del(t, c.Oracle(0), "a/comes back")
		put(t, c.Oracle(0), "a/changes", fmt.Sprint("another", round))
		j.holds(t, soon, c.Oracle(0), "a/")
	}
	if g := j.generation(); g != 2 {
		t.Errorf("generation %d after two restored backups", g)
	}
}

// The restored backup has caught up with the view's revision before the view sees it: no header shows that history is
// another one.
func TestARestoredBackupThatHasCaughtUpIsAnotherGeneration(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "a/stays", "1")
	put(t, c.Oracle(0), "a/changes", "1")
	backup := c.Backup()
	put(t, c.Oracle(0), "a/changes", "2")
	put(t, c.Oracle(0), "a/goes", "2")

	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	link.Cut()
	down := time.After(2100 * time.Millisecond) // no backup is restored in less
	c.Restore(backup)
	for i := range 5 {
		put(t, c.Oracle(0), fmt.Sprintf("a/new%d", i), "3")
	}
	<-down
	link.Heal()
	j.holds(t, 15*time.Second, c.Oracle(0), "a/")
	if got := j.generation(); got != 1 {
		t.Errorf("generation %d, want 1", got)
	}
}

// What went away with the restored past was written by the view's own process while the view was cut off: only its follower
// has heard of it.
func TestARestoredPastThatWasOnlyHeardOfIsAnotherGeneration(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "a/stays", "1")
	backup := c.Backup()
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Prefix("a/"))
	j.synced(t)
	link.Cut()
	put(t, c.Oracle(0), "a/stays", "2")
	j.follower.Heard(put(t, c.Oracle(0), "a/goes", "2"))
	c.Restore(backup)
	link.Heal()
	j.wait(t, 15*time.Second, "another generation", func() bool { return j.live && j.last.Generation == 1 })
	j.holds(t, soon, c.Oracle(0), "a/")
	put(t, c.Oracle(0), "a/comes", "3")
	j.holds(t, soon, c.Oracle(0), "a/")
}

// The restored backup is all that the view has ever seen: it is live, and learns of the past that was lost afterwards.
func TestALiveViewHearsOfAPastThatWasLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	put(t, c.Oracle(0), "a/stays", "1")
	backup := c.Backup()
	lost := put(t, c.Oracle(0), "a/stays", "2")
	for range 20 {
		lost = put(t, c.Oracle(0), "a/goes", "2")
	}
	c.Restore(backup)
	j := attach(t, c.Client(), follow.Prefix("a/"))
	j.synced(t)
	j.follower.Heard(lost)
	j.wait(t, 15*time.Second, "another generation", func() bool { return j.live && j.last.Generation == 1 })
	heard := time.Now()
	j.holds(t, soon, c.Oracle(0), "a/")
	// It was heard once, and counts once.
	etcdtest.Eventually(t, 15*time.Second, "the view is asked for its progress again and again", func(context.Context) error {
		if proven := j.follower.Status().ProvenAt; proven.Before(heard.Add(3 * time.Second)) {
			return fmt.Errorf("proven %v after the generation", proven.Sub(heard))
		}
		return nil
	})
	if got := j.generation(); got != 1 {
		t.Errorf("generation %d, want 1", got)
	}
}

// A follower hears of its own writes before the view sees them, all the time. That is no other history, and no reason to
// read again.
func TestAViewIsNotDoubtedForBeingAMomentBehind(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link := c.Link(0)
	j := attach(t, link.Client(), follow.Keys("a"))
	j.synced(t)
	link.Delay(etcdtest.Responses, 50*time.Millisecond, 50*time.Millisecond)
	// Elsewhere, so that no event brings the view forward: it goes by answers about progress.
	for end := time.After(5 * time.Second); ; {
		j.follower.Heard(put(t, c.Oracle(0), "b", ""))
		select {
		case <-end:
			if n := j.count(isStale); n != 0 || j.generation() != 0 {
				t.Errorf("%d interruptions, generation %d", n, j.generation())
			}
			return
		default:
		}
	}
}

// The same endpoints, another cluster: a development machine's, recreated.
func TestAnotherClusterIsAnotherGeneration(t *testing.T) {
	t.Parallel()
	// Their histories begin with the same revisions, so that only the cluster's id tells.
	one, two := etcdtest.New(t, nil), etcdtest.New(t, nil)
	for _, c := range []*etcdtest.Cluster{one, two} {
		put(t, c.Oracle(0), "a/stays", "1")
		put(t, c.Oracle(0), "a/goes", "1")
	}
	del(t, two.Oracle(0), "a/goes")
	put(t, two.Oracle(0), "a/comes", "1")
	cli := one.Client()
	j := attach(t, cli, follow.Prefix("a/"))
	j.synced(t)
	cli.SetEndpoints(two.Endpoints()...)
	one.Stop()
	j.wait(t, 15*time.Second, "another generation", func() bool { return j.live && j.last.Generation == 1 })
	j.holds(t, soon, two.Oracle(0), "a/")
	put(t, two.Oracle(0), "a/comes", "2")
	j.holds(t, soon, two.Oracle(0), "a/")
	if got := j.generation(); got != 1 {
		t.Errorf("generation %d, want 1", got)
	}
}

// The watch goes to a member that lags behind the one that the read went to: it knows less than the view does. That is no
// other history, but no state to stay in either.
func TestAMemberThatLagsBehindIsNoOtherHistory(t *testing.T) {
	t.Parallel()
	// The member does not notice for four seconds that it is cut off.
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, ElectionTicks: 400})
	lagging, leader := c.Follower(), c.Leader()
	c.Partition(lagging)
	put(t, c.Oracle(leader), "a/1", "1")
	put(t, c.Oracle(leader), "a/1", "2")
	cli := c.ClientTo(lagging)
	cli.KV = c.ClientTo(leader).KV
	j := attach(t, cli, follow.Prefix("a/"))
	j.synced(t)
	synced := time.Now()
	put(t, c.Oracle(leader), "a/1", "3")
	j.wait(t, soon, "it is noticed that the watch lags behind", func() bool { return stales(j) > 0 })
	if at := j.follower.Status().ProvenAt; at.After(synced) {
		t.Errorf("proven %v after the read, and the watch knew less than that", at.Sub(synced))
	}
	c.HealPartition()
	j.holds(t, 20*time.Second, c.Oracle(leader), "a/")
	put(t, c.Oracle(leader), "a/1", "4")
	j.holds(t, 20*time.Second, c.Oracle(leader), "a/")
	if got := j.generation(); got != 0 {
		t.Errorf("generation %d: this is one history\n%s", got, j.tail())
	}
}
