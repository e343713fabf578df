package etcdtest

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Stop stops members, all without an argument, at once and together. Their connections are cut and their ports
// refuse; their data stay. It is not a crash: what they had accepted is on disk. Those already stopped stay so.
func (c *Cluster) Stop(which ...int) {
	c.t.Helper()
	c.own("Stop")
	c.core.halt(c.indexes(which))
}

// Restart starts stopped members, all without an argument, on the data and the endpoints they had, and waits until
// those serve that can reach a majority. Partitions stay as they are. Those already running are left alone.
func (c *Cluster) Restart(which ...int) {
	c.t.Helper()
	c.own("Restart")
	ctx, cancel := c.short()
	defer cancel()
	if err := c.core.launch(ctx, c.indexes(which)); err != nil {
		c.t.Fatal(err)
	}
}

// Partition cuts members off from the others and leaves their clients alone: on the two sides of the cut, members
// talk among themselves only. It adds to earlier partitions.
func (c *Cluster) Partition(which ...int) {
	c.t.Helper()
	c.own("Partition")
	if len(which) == 0 {
		c.t.Fatal("etcdtest: Partition of no member")
	}
	one := make(map[int]bool)
	for _, i := range c.indexes(which) {
		one[i] = true
	}
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	for i := range c.Size() {
		for j := range c.Size() {
			if one[i] && !one[j] {
				c.core.cut[pair(i, j)] = true
				c.core.setCut(pair(i, j), true)
			}
		}
	}
}

// HealPartition takes back every Partition. It does not wait for anything: see [Cluster.WaitLeader].
func (c *Cluster) HealPartition() {
	c.t.Helper()
	c.own("HealPartition")
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	for p := range c.core.cut {
		c.core.setCut(p, false)
	}
	clear(c.core.cut)
}

// Leader returns the index of the member that a majority follows, or -1.
func (c *Cluster) Leader() int { return c.core.leader() }

func (c *core) leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	votes := make(map[uint64]int)
	for i, m := range c.members {
		if c.running[i] {
			votes[m.Server.Lead()]++
		}
	}
	for i, m := range c.members {
		// A leader that has just lost its majority thinks for a while that it still leads.
		if c.running[i] && votes[uint64(m.ID())] > len(c.members)/2 && m.Server.Lead() == uint64(m.ID()) {
			return i
		}
	}
	return -1
}

// WaitLeader waits until there is a leader, and returns its index.
func (c *Cluster) WaitLeader() int {
	c.t.Helper()
	return c.waitLeader("a leader", func(i int) bool { return i >= 0 })
}

// WaitOtherLeader waits until a member other than old leads, and returns its index.
func (c *Cluster) WaitOtherLeader(old int) int {
	c.t.Helper()
	return c.waitLeader(fmt.Sprintf("a leader other than %d", old), func(i int) bool { return i >= 0 && i != old })
}

// WaitNoLeader waits until no member knows a leader.
func (c *Cluster) WaitNoLeader() {
	c.t.Helper()
	Eventually(c.t, patience, "etcdtest: no leader", func(context.Context) error {
		c.core.mu.Lock()
		defer c.core.mu.Unlock()
		for i, m := range c.core.members {
			if c.core.running[i] && m.Server.Lead() != 0 {
				return fmt.Errorf("member %d follows %x", i, m.Server.Lead())
			}
		}
		return nil
	})
}

func (c *Cluster) waitLeader(what string, want func(int) bool) (leader int) {
	c.t.Helper()
	Eventually(c.t, patience, "etcdtest: waiting for "+what, func(context.Context) error {
		if leader = c.Leader(); !want(leader) {
			return fmt.Errorf("it is %d", leader)
		}
		return nil
	})
	return leader
}

// Follower returns the index of a running member that is not the leader.
func (c *Cluster) Follower() int {
	c.t.Helper()
	leader := c.WaitLeader()
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	for i, running := range c.core.running {
		if running && i != leader {
			return i
		}
	}
	c.t.Fatalf("etcdtest: no member runs but the leader, %d", leader)
	panic("unreachable")
}

// Compact drops every revision below rev, physically: reads and watches that ask for one get ErrCompacted from now
// on. Zero means the current revision. It returns the revision.
func (c *Cluster) Compact(rev int64) int64 {
	c.t.Helper()
	c.own("Compact")
	ctx, cancel := c.short()
	defer cancel()
	cli := c.Oracle(c.WaitLeader())
	if rev == 0 {
		rev = c.Revision()
	}
	if _, err := cli.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		c.t.Fatalf("etcdtest: compacting at revision %d: %v", rev, err)
	}
	return rev
}

// Revision returns the current revision.
func (c *Cluster) Revision() int64 {
	c.t.Helper()
	ctx, cancel := c.short()
	defer cancel()
	resp, err := c.Oracle(c.WaitLeader()).Get(ctx, "etcdtest/revision", clientv3.WithCountOnly())
	if err != nil {
		c.t.Fatalf("etcdtest: reading the revision: %v", err)
	}
	return resp.Header.Revision
}

// Revoke revokes a lease behind its owner's back. Its keys are gone when it returns.
func (c *Cluster) Revoke(id clientv3.LeaseID) {
	c.t.Helper()
	ctx, cancel := c.short()
	defer cancel()
	if _, err := c.Oracle(c.WaitLeader()).Revoke(ctx, id); err != nil {
		c.t.Fatalf("etcdtest: revoking lease %x: %v", id, err)
	}
}

// Delete deletes a key behind its owner's back, and fails the test if there is none.
func (c *Cluster) Delete(key string) {
	c.t.Helper()
	ctx, cancel := c.short()
	defer cancel()
	resp, err := c.Oracle(c.WaitLeader()).Delete(ctx, key)
	if err == nil && resp.Deleted != 1 {
		err = errors.New("there is no such key")
	}
	if err != nil {
		c.t.Fatalf("etcdtest: deleting %q: %v", key, err)
	}
}

// FillUp raises the alarm of a full database: from now on whatever may write is refused with ErrNoSpace, except for
// transactions that only delete.
func (c *Cluster) FillUp() {
	c.t.Helper()
	c.own("FillUp")
	c.alarm(pb.AlarmRequest_ACTIVATE)
}

// FreeUp takes FillUp back.
func (c *Cluster) FreeUp() {
	c.t.Helper()
	c.own("FreeUp")
	c.alarm(pb.AlarmRequest_DEACTIVATE)
}

func (c *Cluster) alarm(action pb.AlarmRequest_AlarmAction) {
	c.t.Helper()
	ctx, cancel := c.short()
	defer cancel()
	m := c.Member(c.WaitLeader())
	_, err := m.Server.Alarm(ctx, &pb.AlarmRequest{
		Action: action, MemberID: uint64(m.ID()), Alarm: pb.AlarmType_NOSPACE,
	})
	if err != nil {
		c.t.Fatalf("etcdtest: alarm: %v", err)
	}
}
