package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

const (
	hangReads  = 12
	hangWarm   = 20               // reads at most before it hangs, for connections to be used
	hangTakes  = 40 * time.Second // for what has no bound of its own
	hangSlack  = time.Second      // for a machine that is busy
	stalled    = "a proxy of the doctor's own, at %s, stands for %s"
	remedyHang = "Leave pool.Config.Retry at its defaults, or give attempts a timeout and calls room for two of them."
)

// oneHangs has the application's client meet a member that hangs while others do not: calls are to be answered by those.
func oneHangs(ctx context.Context, p *Patient) Finding {
	f := Finding{Subject: "one endpoint hangs"}
	alive := reachable(ctx, p)
	if len(alive) < 2 {
		f.Verdict, f.Reason = Skipped, "it takes two endpoints that answer"
		f.Remedy = "Examine with all members as --endpoints."
		return f
	}
	s, err := standFor(alive[0])
	if err != nil {
		return notSeen(f.Subject, err, "")
	}
	defer s.close()
	f.Evidence = []string{fmt.Sprintf(stalled, hostOf(s.endpoint()), hostOf(s.of))}
	cfg, named := through(ctx, p, s, alive[1:])
	if !named { // no certificate but that of the one it stands for could be verified through it
		s.hang()
		f.Evidence = append(f.Evidence, "it hangs from the first: the members' certificates have no name in common by which they could be verified")
	}
	ctx, cancel := context.WithTimeout(ctx, hangTakes)
	defer cancel()
	began := time.Now()
	clients, err := pool.Open(ctx, cfg)
	if err != nil {
		f.Verdict, f.Reason, f.Evidence, f.Remedy = Fail, "the client could not be opened", append(f.Evidence, inLine(err)), remedyHang
		return f
	}
	defer letGo(ctx, clients)
	if !named {
		f.Evidence = append(f.Evidence, fmt.Sprintf("opening took %v", brief(time.Since(began))))
	} else {
		warm(ctx, clients.Client(), s)
		s.hang()
	}
	return f.meets(ctx, p, clients, s)
}

// meets has the client read, and renew a lease, and judges how that went.
func (f Finding) meets(ctx context.Context, p *Patient, clients *pool.Pool, s *stand) Finding {
	m := (measured{heartbeat: p.Heartbeat, election: p.Election}).settled()
	ttl := p.SessionTTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	trusted := ttl - m.margin(ttl) - ttl/3 // what is left of it when a renewal is due
	var (
		took   time.Duration
		sent   int
		lost   error
		beside sync.WaitGroup
	)
	beside.Go(func() { // so that neither finds the endpoint left out already that the other has met
		for range clients.Stats().Endpoints {
			once, n, err := renew(ctx, clients.Client(), trusted)
			if took, sent, lost = max(took, once), max(sent, n), err; err != nil {
				return
			}
		}
	})
	var times spread
	var failed error
	for range hangReads {
		began := time.Now()
		err := read(ctx, clients.Client())
		times = append(times, time.Since(began))
		if failed = err; failed != nil {
			break
		}
	}
	beside.Wait()
	within := bound(p.Config.Retry)
	f.Evidence = append(
		f.Evidence,
		fmt.Sprintf("%d bytes passed before, %d were sent into it and not answered", s.passed.Load(), s.swallowed.Load()),
		fmt.Sprintf("reads: %v, bound %v", times, orNone(within)),
	)
	if out := clients.Stats().LeftOut; len(out) > 0 {
		f.Evidence = append(f.Evidence, "left out since: "+strings.Join(out, ", "))
	}
	if lost == nil {
		f.Evidence = append(f.Evidence, fmt.Sprintf("renewals were answered after %v at most, when sent %s; a session with a TTL of %v has %v", brief(took), cli.Plural(sent, "time", "times"), ttl, brief(trusted)))
	}
	switch {
	case failed != nil:
		f.Verdict, f.Reason, f.Evidence, f.Remedy = Fail, "a read failed though others could have answered", append(f.Evidence, inLine(failed)), remedyHang
	case lost != nil:
		f.Verdict, f.Reason, f.Evidence = Fail, fmt.Sprintf("no renewal was answered while trust lasts: sessions with a TTL of %v are lost", ttl), append(f.Evidence, inLine(lost))
		f.Remedy = "Give sessions a longer TTL: see check 6."
	case within > 0 && times.max() > within+hangSlack:
		f.Verdict, f.Reason, f.Remedy = Fail, fmt.Sprintf("a read took %v", brief(times.max())), remedyHang
	case s.swallowed.Load() == 0:
		f.Verdict, f.Reason, f.Remedy = Skipped, "nothing was sent to the endpoint that hangs", "Examine again."
	default:
		f.Verdict, f.Reason = OK, fmt.Sprintf("every read was answered, within %v, and every renewal within %v", brief(times.max()), brief(took))
	}
	return f
}

// allHang has it meet a member that hangs and is the only one: calls, and the opening of a client, are to end with an error in time.
func allHang(ctx context.Context, p *Patient) Finding {
	f := Finding{Subject: "every endpoint hangs"}
	of, alive := p.Config.Endpoints[0], reachable(ctx, p)
	if len(alive) > 0 {
		of = alive[0]
	}
	s, err := standFor(of)
	if err != nil {
		return notSeen(f.Subject, err, "")
	}
	defer s.close()
	f.Evidence = []string{fmt.Sprintf(stalled, hostOf(s.endpoint()), hostOf(of)) + ", and is the only endpoint"}
	cfg, _ := through(ctx, p, s, nil)
	ctx, cancel := context.WithTimeout(ctx, hangTakes)
	defer cancel()
	var took time.Duration
	if len(alive) > 0 {
		clients, err := pool.Open(ctx, cfg)
		if err != nil {
			return notSeen(f.Subject, err, "Connect as a user.")
		}
		defer letGo(ctx, clients)
		warm(ctx, clients.Client(), s)
		s.hang()
		began := time.Now()
		err = read(ctx, clients.Client())
		took = time.Since(began)
		if err == nil {
			f.Verdict, f.Reason, f.Remedy = Skipped, "it was answered all the same", "Examine again."
			return f
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("a read ended after %v, bound %v: %s", brief(took), orNone(bound(cfg.Retry)), inLine(err)))
		if within := bound(cfg.Retry); within == 0 || took > within+hangSlack {
			f.Verdict, f.Reason, f.Remedy = Fail, fmt.Sprintf("a read took %v to fail", brief(took)), remedyHang
			return f
		}
	} else {
		s.hang()
	}
	began := time.Now()
	clients, err := pool.Open(ctx, cfg)
	opening, within := time.Since(began), cfg.Retry.Effective().ConnectTimeout
	if err == nil {
		letGo(ctx, clients)
		f.Verdict, f.Reason, f.Remedy = Skipped, "it was answered all the same", "Examine again."
		return f
	}
	f.Evidence = append(f.Evidence, fmt.Sprintf("opening a client ended after %v, bound %v: %s", brief(opening), orNone(within), inLine(err)))
	switch {
	case within == 0 || opening > within+hangSlack:
		f.Verdict, f.Reason, f.Remedy = Fail, fmt.Sprintf("opening a client took %v to fail", brief(opening)), "Set --dial-timeout, or pool.Config.Retry.ConnectTimeout."
	case !strings.Contains(err.Error(), hostOf(s.endpoint())):
		f.Verdict, f.Reason, f.Remedy = Fail, "the error does not name the endpoint", "Open clients with package pool, which says what each endpoint did."
	default:
		f.Verdict, f.Reason = OK, fmt.Sprintf("opening ends within %v with an error that names the endpoint", brief(opening))
		if took > 0 {
			f.Reason = fmt.Sprintf("a read ends within %v, and %s", brief(took), f.Reason)
		}
	}
	return f
}

// reachable are those of the endpoints given that lead to a member that answers.
func reachable(ctx context.Context, p *Patient) (some []string) {
	all, _ := sites(ctx, p) // those that are given are there in any case
	for _, s := range all[:len(p.Endpoints)] {
		if s.alive() {
			some = append(some, s.endpoint)
		}
	}
	return some
}

// through is the application's configuration, with a stand in the place of the endpoint that it stands for and with others. What is
// connected to through it is this machine: so a name is set by which the certificates of all are verified. It reports false if there is
// none.
func through(ctx context.Context, p *Patient, s *stand, others []string) (cfg pool.Config, named bool) {
	cfg = p.Config
	cfg.Endpoints, cfg.Logger = append([]string{s.endpoint()}, others...), nil
	own := p.TLS()
	if own == nil || own.InsecureSkipVerify || own.ServerName != "" {
		return cfg, true
	}
	name := nameOf(s.of)
	for _, e := range others {
		if verify(ctx, p, e, name) != nil {
			return cfg, false
		}
	}
	files := pool.TLSFiles{}
	if cfg.TLS != nil {
		files = *cfg.TLS
	}
	files.ServerName = name
	cfg.TLS = &files
	return cfg, true
}

// verify returns nil if an endpoint's certificate is for a name.
func verify(ctx context.Context, p *Patient, endpoint, name string) error {
	conn, err := dial(ctx, endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was written
	own := p.TLS()
	own.ServerName = name
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return tls.Client(conn, own).HandshakeContext(ctx)
}

// warm reads until something has passed a stand, and a renewal has, so that connections are in use when it hangs.
func warm(ctx context.Context, client *clientv3.Client, s *stand) {
	for n := range hangWarm {
		before := s.passed.Load()
		_ = read(ctx, client) // what is wrong with it shows later
		if n > 2 && s.passed.Load() > before {
			break
		}
	}
	_, _, _ = renew(ctx, client, askWithin)
}

// read asks for a key of the doctor's own. A refusal is an answer, too.
func read(ctx context.Context, client *clientv3.Client) error {
	_, err := client.Get(ctx, ownPrefix)
	if answered(err) {
		return nil
	}
	return err
}

// renew renews a lease as a session does: what is not answered is sent again beside it, to the next endpoint. It is one that nobody has: to
// be told so takes the same way, and writes nothing.
func renew(ctx context.Context, client *clientv3.Client, within time.Duration) (took time.Duration, sent int, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began, again := time.Now(), time.NewTimer(0)
	defer again.Stop()
	nobodys := clientv3.LeaseID(rand.Int64())
	answers := make(chan error, 16) // more than are sent while somebody waits
	wait, last := resend, errors.New("no answer")
	for {
		select {
		case <-again.C:
			if sent == cap(answers) {
				continue
			}
			sent++
			go func() {
				_, err := client.KeepAliveOnce(ctx, nobodys)
				answers <- err
			}()
			again.Reset(wait)
			wait *= 2
		case err := <-answers:
			if answered(err) {
				return time.Since(began), sent, nil
			}
			last = err
		case <-ctx.Done():
			return time.Since(began), sent, fmt.Errorf("sent %d times in %v: %w", sent, within, last)
		}
	}
}

// letGo closes clients that nobody uses any more.
func letGo(ctx context.Context, clients *pool.Pool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = clients.Close(ctx) // nothing of it is wanted
}

// bound is how long a call may take under a policy; 0 if nothing says.
func bound(given retry.Policy) time.Duration {
	p := given.Effective()
	if p.ReadTimeout == 0 {
		return p.MaxElapsed
	}
	d := p.ConnectTimeout + p.ReadTimeout
	if p.MaxElapsed > 0 {
		d = min(d, p.MaxElapsed)
	}
	return d
}
