package pool

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/etcdkit/etcdkit/retry"
)

const (
	// maxTimeouts is after how many attempts running that an endpoint did not answer it is left out, whatever else it says.
	maxTimeouts = 3

	// probeWithin bounds the question whether an endpoint is there; a member answers it in a few milliseconds. One that is left
	// out has longer: it may be far away, and the question takes a connection of its own.
	probeWithin = 500 * time.Millisecond
	returnIn    = 2 * time.Second

	// askAgain is how much later than the others a member may learn of a new leader, who tells all of them at once.
	askAgain = 100 * time.Millisecond

	// probeEvery is how often an endpoint that was left out is asked again, with jitter.
	probeEvery = time.Second
)

// health decides which endpoints are used. gRPC sends requests to every endpoint that it is connected to, in turn, also to one
// that has not answered for minutes: a member that is frozen, or behind a network that swallows packets, looks connected.
//
// When an endpoint lets an attempt time out all are asked, beside all traffic, whether they are there: the one that hangs may be
// another, the leader that it waits for. One that does not answer that either, or that lets some more attempts time out one after
// the other, is left out until it answers. So is one that goes on having no leader while others have one: it is cut off from them.
// While a leader is elected that is so of all, and they are there. The last one is never left out.
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
	led      time.Time // when it last answered a question as a member that has a leader
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
		if err != nil && errors.Is(retry.EtcdError(err), rpctypes.ErrNoLeader) {
			h.suspect()
		}
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
	h.askAll()
}

// patience is that with the member at an address; nil if there is none.
func (h *health) patience(address string) *patience {
	if h.members[address] == nil { // the map itself does not change
		return nil
	}
	return &patience{health: h, address: address}
}

// isOut reports whether the endpoint of an address is left out.
func (h *health) isOut(address string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[address]
	return m != nil && m.out
}

// suspect notes that there is a doubt which is not counted: a stream's request was not answered in time, for which a watch
// that has much to catch up with is reason enough, or a member has no leader. What that is worth shows when all are asked.
func (h *health) suspect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.askAll()
}

// heardFrom notes that a stream brought something. It ends no count: a member without a leader answers some questions too.
func (h *health) heardFrom(address string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.members[address]; m != nil {
		m.heard = time.Now()
	}
}

// askAll asks every endpoint that is used whether it is there. The caller holds mu.
func (h *health) askAll() {
	for _, m := range h.members {
		if !m.asking && !m.out {
			m.asking = true
			h.start(func() { h.ask(m) })
		}
	}
}

// ask finds out whether an endpoint is there at all. One without a leader is asked again a little later: after an election
// some know of the new leader before others.
func (h *health) ask(m *memberHealth) {
	began := time.Now()
	err := h.question(m, probeWithin)
	if errors.Is(err, errNoLeader) && h.pause(askAgain) {
		err = h.question(m, probeWithin)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.asking = false
	if err == nil {
		m.led = time.Now()
	}
	switch {
	case err == nil || m.out || h.life.Err() != nil || errors.Is(err, errNoCommit):
	case errors.Is(err, errNoLeader):
		if h.othersLed(m, began) {
			h.leaveOut(m, "it has no leader, and others have")
		}
	case m.heard.Before(began):
		h.leaveOut(m, "it does not answer")
	}
}

// othersLed reports whether another endpoint that is used has answered, with a leader, since a time. The caller holds mu.
func (h *health) othersLed(m *memberHealth, since time.Time) bool {
	for _, other := range h.members {
		if other != m && !other.out && !other.led.Before(since) {
			return true
		}
	}
	return false
}

// question asks an endpoint once.
func (h *health) question(m *memberHealth, within time.Duration) error {
	ctx, cancel := context.WithTimeout(h.life, within)
	defer cancel()
	return h.probe(ctx, m.endpoint)
}

// pause waits, and reports whether the life goes on.
func (h *health) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.life.Done():
		return false
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
		if !h.pause(probeEvery/2 + rand.N(probeEvery)) {
			return
		}
		if h.question(m, returnIn) == nil {
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
