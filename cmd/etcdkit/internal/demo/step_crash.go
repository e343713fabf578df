package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// holdTTL is the TTL of the lock that is held while etcd has no leader: etcdkit's default. With etcd's default
// timeouts an election takes from one to two seconds, and twice that if votes are split.
const holdTTL = 10 * time.Second

// succeed kills the leading service, and then replaces it.
func (s *show) succeed(ctx context.Context) error {
	s.tellSaid = func(e said) string {
		switch {
		case e.Kind == orders.Leading:
			return fmt.Sprintf("leads, token %d", e.Token)
		case e.Kind == orders.Peers && e.id != you:
			return "sees " + strings.Join(e.IDs, " ")
		}
		return ""
	}
	leads, err := s.leader(ctx)
	if err != nil {
		return err
	}
	s.tellWrite = func(w write) string {
		switch {
		case w.deleted && w.key == registryPrefix+leads.value:
			return "deletes the registration of " + leads.value + ": its lease has expired"
		case w.deleted && w.key == leads.key:
			return "deletes the candidacy of " + leads.value + ": its lease has expired"
		}
		return ""
	}
	killed := time.Now()
	if err := s.kill(leads.value); err != nil {
		return err
	}
	s.line(killed, you, fmt.Sprintf("kills %s, which leads with token %d (SIGKILL)", leads.value, leads.token))
	err = s.prove(ctx, promiseSuccession, "the next leader; the dead one's TTL is "+seconds(orders.TTL), func(e evidence) (string, error) {
		return succeeded(e, leads.value, leads.token, killed).check()
	})
	if err != nil {
		return err
	}
	err = s.until(ctx, "the end of its registration", func(e evidence) bool {
		return len(e.writes.present(registryPrefix)) == len(s.alive)
	})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.start("d"); err != nil {
		return err
	}
	s.say("starts d in its place, process %d", s.actor("d").proc.PID())
	return s.proveDiscovery(ctx, promiseReplacement, began)
}

// failOver kills etcd's leader while a service holds the lock, and starts it again.
func (s *show) failOver(ctx context.Context) error {
	s.tellSaid = func(e said) string {
		switch e.Kind {
		case orders.Holding:
			return fmt.Sprintf("holds the lock, token %d, TTL %s", e.Token, seconds(holdTTL))
		case orders.Released:
			return fmt.Sprintf("gives the lock back, token %d, after %d orders", e.Token, e.Orders)
		case orders.Leading:
			return fmt.Sprintf("leads, token %d", e.Token)
		default:
			return ""
		}
	}
	s.tellWrite = nil
	leads, err := s.leader(ctx)
	if err != nil {
		return err
	}
	holder := s.actor(s.others(leads.value)[0])
	if err := holder.proc.Say(fmt.Sprintf("%s %v", orders.TaskHold, holdTTL)); err != nil {
		return err
	}
	f := failover{}
	// A few orders, so that it is the hold that is interrupted and not its beginning.
	err = s.until(ctx, "orders under the lock", func(e evidence) bool {
		holding, ok := e.heard(func(s said) bool { return s.id == holder.id && s.Kind == orders.Holding })
		f.token = holding.Token
		return ok && len(under(e.writes.entries(), f.token)) >= 5
	})
	if err != nil {
		return err
	}
	m, before, err := s.ruler(ctx, 0)
	if err != nil {
		return err
	}
	f.before, f.killed = before, time.Now()
	if err := s.cluster.Kill(m); err != nil {
		return err
	}
	s.line(f.killed, you, fmt.Sprintf("kills %s, the leader of etcd (SIGKILL)", f.before.member))
	if _, f.after, err = s.ruler(ctx, f.before.term); err != nil {
		return err
	}
	f.elected = time.Now()
	s.line(f.elected, etcd, fmt.Sprintf("elects %s, raft term %d after %d", f.after.member, f.after.term, f.before.term))
	if f.resumed, err = s.revision(ctx); err != nil {
		return err
	}
	err = s.until(ctx, "orders under the lock, after the election", func(e evidence) bool {
		own := under(e.writes.entries(), f.token)
		return len(own) >= 5 && own[len(own)-5].revision > f.resumed
	})
	if err != nil {
		// The check says better why there are none: because the lock was lost, for one.
		s.say("%v", err)
	}
	if err := holder.proc.Say(orders.TaskGoOn); err != nil {
		return err
	}
	err = s.prove(ctx, promiseFailover, "the lock given back", func(e evidence) (string, error) {
		return f.with(e, holder.id).check()
	})
	if err != nil {
		return err
	}
	if err := s.cluster.Restart(ctx, m); err != nil {
		return err
	}
	s.pids = append(s.pids, s.cluster.Process(m).PID())
	s.say("starts %s again: it has caught up and serves", f.before.member)
	return nil
}

// under returns the orders that were numbered under a token.
func under(entries []entry, token int64) []entry {
	var own []entry
	for _, e := range entries {
		if e.Token == token {
			own = append(own, e)
		}
	}
	return own
}

// ruler returns which member leads etcd in a term after one, and in which.
func (s *show) ruler(ctx context.Context, after uint64) (member int, r rule, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("etcd has no leader for %v", patience))
	defer cancel()
	for {
		member, err = s.cluster.Leader(ctx)
		if err != nil {
			return member, rule{}, err
		}
		status, err := s.plain.Status(ctx, s.cluster.Endpoint(member))
		if err != nil {
			return member, rule{}, err
		}
		// The term that a member tells is that of the last entry it has applied: a new leader's own comes when its first
		// entry is on the disks of a majority.
		if status.RaftTerm > after {
			return member, rule{member: memberName(member), term: status.RaftTerm}, nil
		}
	}
}

// memberName is how the demo calls a member of etcd.
func memberName(i int) string { return fmt.Sprintf("m%d", i) }

// revision returns etcd's revision, from a majority of its members.
func (s *show) revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := s.plain.Get(ctx, orders.LastKey, clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.GetRevision(), nil
}
