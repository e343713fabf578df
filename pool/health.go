package pool

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

const (
	// maxTimeouts is after how many attempts running that an endpoint did not answer it is left out, whatever else it says.
	maxTimeouts = 3

	// probeWithin bounds the question whether an endpoint is there; a member answers it in a few milliseconds. One that is left
	// out has longer: it may be far away, and the question takes a connection of its own.
	probeWithin = 500 * time.Millisecond
	returnIn    = 2 * time.Second

	// probeEvery is how often an endpoint that was left out is asked again, with jitter.
	probeEvery = time.Second
)

// health decides which endpoints are used. gRPC sends requests to every endpoint that it is connected to, in turn, also to one
// that has not answered for minutes: a member that is frozen, or behind a network that swallows packets, looks connected.
//
// When an endpoint lets an attempt time out all are asked, beside all traffic, whether they are there: the one that hangs may be
// another, the leader that it waits for. One that does not answer that either, or that lets some more attempts time out one after
// the other, is left out until it answers. One that answers, and has no leader, is there: while a leader is elected that is so of
// all. The last one is never left out.
type health struct {
	least time.Duration // an attempt that was given less time says nothing; a little under AttemptTimeout, which begins earlier
	probe func(ctx context.Context, endpoint string) error
	apply func(use []string, out string) // called with what is used from now on, and what was left out, if anything
	log   *zap.Logger

	life context.Context
	work sync.WaitGroup

	mu      sync.Mutex // guards what is below
	members map[string]*memberHealth
	order   []string // addresses, as configured
	over    bool     // nothing may be started any more
}

// memberHealth is what is known of one endpoint.
type memberHealth struct {
	endpoint string
	timeouts int       // running
	counted  time.Time // when the last of them was; one that began before that ran beside it, and says the same
	heard    time.Time // when it last answered traffic
	asking   bool
	out      bool
}

func newHealth(life context.Context, endpoints []string, least time.Duration, log *zap.Logger) *health {
	if least == 0 { // without an attempt timeout it is the caller's patience that ends, and that may be short
		least = probeWithin
	}
	h := &health{least: least - least/10, life: life, members: map[string]*memberHealth{}, log: log}
	for _, e := range endpoints {
		address, _ := addressOf(e) // they are valid
		h.members[address] = &memberHealth{endpoint: e}
		h.order = append(h.order, address)
	}
	return h
}

// unary watches one attempt.
func (h *health) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var from peer.Peer
	began := time.Now()
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&from))...)
	if from.Addr == nil || ctx.Value(bare{}) != nil { // it never got as far as an endpoint, or was only a question
		return err
	}
	switch silent := err != nil && ctx.Err() != nil; {
	case !silent:
		h.answered(from.Addr.String())
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && time.Since(began) >= h.least:
		h.timedOut(from.Addr.String(), began)
	}
	return err
}

// answered notes that an endpoint did.
func (h *health) answered(address string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.members[address]; m != nil {
		m.timeouts, m.heard = 0, time.Now()
	}
}

// timedOut notes that an endpoint did not answer an attempt.
func (h *health) timedOut(address string, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[address]
	if m == nil || m.out || began.Before(m.counted) {
		return
	}
	m.timeouts++
	m.counted = time.Now()
	if m.timeouts >= maxTimeouts {
		h.leaveOut(m, "it let several attempts time out")
		return
	}
	for _, m := range h.members {
		if !m.asking && !m.out {
			m.asking = true
			h.start(func() { h.ask(m) })
		}
	}
}

// ask finds out whether an endpoint is there at all.
func (h *health) ask(m *memberHealth) {
	ctx, cancel := context.WithTimeout(h.life, probeWithin)
	defer cancel()
	began := time.Now()
	err := h.probe(ctx, m.endpoint)
	h.mu.Lock()
	defer h.mu.Unlock()
	m.asking = false
	there := err == nil || errors.Is(err, errNoLeader) || errors.Is(err, errNoCommit)
	if !there && h.life.Err() == nil && m.heard.Before(began) && !m.out {
		h.leaveOut(m, "it does not answer")
	}
}

// leaveOut has an endpoint not be used until it answers. The caller holds mu.
func (h *health) leaveOut(m *memberHealth, why string) {
	if len(h.using()) == 1 {
		return
	}
	m.out = true
	h.log.Warn("endpoint is left out", zap.String("endpoint", m.endpoint), zap.String("why", why))
	h.apply(h.using(), m.endpoint)
	h.start(func() { h.wait(m) })
}

// wait takes an endpoint in again as soon as it answers.
func (h *health) wait(m *memberHealth) {
	for {
		timer := time.NewTimer(probeEvery/2 + rand.N(probeEvery))
		select {
		case <-timer.C:
		case <-h.life.Done():
			timer.Stop()
			return
		}
		ctx, cancel := context.WithTimeout(h.life, returnIn)
		err := h.probe(ctx, m.endpoint)
		cancel()
		if err == nil {
			break
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.out, m.timeouts = false, 0
	h.log.Info("endpoint is taken in again", zap.String("endpoint", m.endpoint))
	h.apply(h.using(), "")
}

// using are the endpoints that are used. The caller holds mu.
func (h *health) using() []string {
	var use []string
	for _, address := range h.order {
		if m := h.members[address]; !m.out {
			use = append(use, m.endpoint)
		}
	}
	return use
}

// current are the endpoints that are used.
func (h *health) current() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.using()
}

// tell has a connection use the endpoints of now. It is one that pool.conns knows: so what changes later reaches it, too.
func (h *health) tell(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.client.SetEndpoints(h.using()...)
}

// leftOut are the endpoints that are not, in order.
func (h *health) leftOut() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for m := range maps.Values(h.members) {
		if m.out {
			out = append(out, m.endpoint)
		}
	}
	slices.Sort(out)
	return out
}

// start starts a goroutine that close waits for. The caller holds mu.
func (h *health) start(fn func()) {
	if !h.over {
		h.work.Go(fn)
	}
}

// close waits for what was started. The life has ended.
func (h *health) close() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.work.Wait()
}
