package doctor

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	rounds      = 40              // measurements of each kind
	dials       = 5               // ... of connecting
	roundsTake  = 8 * time.Second // in which as many are made as fit
	ownPrefix   = "etcdkit/doctor/"
	ownLeaseTTL = 60 // seconds, after which nothing is left of a doctor that was killed
)

// trips are the round trips to a member.
type trips struct {
	*site
	dial         spread // TCP, and TLS
	serializable spread // answered by the member alone
	linearizable spread // ... when the leader has asked a quorum who leads
	commit       spread // ... when a quorum has it in the log, on disk
	err          error
}

// measure makes the measurements with every member at once, as their times are apart from each other.
func measure(ctx context.Context, p *Patient, all []*site) []*trips {
	ctx, cancel := context.WithTimeout(ctx, roundsTake)
	defer cancel()
	found := make([]*trips, len(all))
	var done sync.WaitGroup
	for i, s := range all {
		found[i] = &trips{site: s}
		done.Go(func() { found[i].take(ctx, p) })
	}
	done.Wait()
	return found
}

// take makes them with one member.
func (t *trips) take(ctx context.Context, p *Patient) {
	for range dials {
		began := time.Now()
		if err := connect(ctx, p, t.endpoint); err != nil {
			t.note(ctx, err)
			break
		}
		t.dial = append(t.dial, time.Since(began))
	}
	auth := pb.NewAuthClient(t.client.ActiveConnection())
	for range rounds {
		// Whether the user may read that key does not matter: a refusal takes the same ways.
		t.time(ctx, &t.serializable, func(ctx context.Context) error {
			_, err := t.client.Get(ctx, ownPrefix, clientv3.WithSerializable())
			return err
		})
		t.time(ctx, &t.linearizable, func(ctx context.Context) error {
			_, err := t.client.Get(ctx, ownPrefix)
			return err
		})
		// Whether authentication is on is the one question that goes through the log: it is committed as a write is, and writes nothing.
		t.time(ctx, &t.commit, func(ctx context.Context) error {
			_, err := auth.AuthStatus(ctx, &pb.AuthStatusRequest{})
			return err
		})
	}
}

// time adds how long something took, if it was answered.
func (t *trips) time(ctx context.Context, to *spread, call func(ctx context.Context) error) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	err := call(ctx)
	if answered(err) {
		*to = append(*to, time.Since(began))
		return
	}
	t.note(ctx, err)
}

// note keeps the first error that is not the end of the time for measuring.
func (t *trips) note(ctx context.Context, err error) {
	if t.err == nil && ctx.Err() == nil {
		t.err = err
	}
}

// connect opens a connection as a client does, and closes it.
func connect(ctx context.Context, p *Patient, endpoint string) error {
	conn, err := dial(ctx, endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if cfg := p.TLS(); cfg != nil {
		if cfg.ServerName == "" {
			cfg.ServerName = nameOf(endpoint)
		}
		return tls.Client(conn, cfg).HandshakeContext(ctx)
	}
	return nil
}

// nameOf is the name or the address that an endpoint's certificate is to be for.
func nameOf(endpoint string) string {
	host, _, err := net.SplitHostPort(hostOf(endpoint))
	if err != nil {
		return hostOf(endpoint)
	}
	return host
}

// apart is the longest median round trip between two members, as far as it shows: how much longer than what a member answers alone
// it takes when the leader has to be asked, and has to ask the others. Wherever the doctor is, it is as far away in both.
func apart(all []*trips) time.Duration {
	more := func(t *trips) time.Duration { return max(0, t.linearizable.p50()-t.serializable.p50()) }
	var quorum, longest time.Duration
	for _, t := range all {
		if t.leads() {
			quorum = more(t)
		}
	}
	for _, t := range all {
		if !t.leads() && len(t.linearizable) > 0 {
			longest = max(longest, more(t)-quorum)
		}
	}
	return max(longest, quorum)
}

// together puts all measurements of a kind together.
func together(all []*trips, kind func(t *trips) spread) spread {
	var s spread
	for _, t := range all {
		s = append(s, kind(t)...)
	}
	slices.Sort(s)
	return s
}
