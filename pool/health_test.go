package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// check is a health whose endpoints are three names, and which are asked by functions of the test.
type check struct {
	*health
	end context.CancelFunc

	mu    sync.Mutex       // guards what is below
	down  map[string]bool  // does not answer
	says  map[string]error // answers so
	asked map[string]int
	use   []string // the last that was applied
	outs  []string // that were left out, in order
}

func newCheck(t *testing.T, least time.Duration, endpoints ...string) *check {
	t.Helper()
	life, end := context.WithCancel(context.Background())
	c := &check{health: newHealth(life, endpoints, least, zap.NewNop()), end: end, down: map[string]bool{}, says: map[string]error{}, asked: map[string]int{}}
	c.probe = func(ctx context.Context, endpoint string) error {
		c.mu.Lock()
		c.asked[endpoint]++
		down, says := c.down[endpoint], c.says[endpoint]
		c.mu.Unlock()
		if down {
			<-ctx.Done()
			return ctx.Err()
		}
		return says
	}
	c.apply = func(use []string, out string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.use = use
		if out != "" {
			c.outs = append(c.outs, out)
		}
	}
	t.Cleanup(func() { end(); c.close() })
	return c
}

// set says whether an endpoint answers.
func (c *check) set(endpoint string, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[endpoint] = down
}

// call is an attempt at an endpoint that takes so long, and has so long.
func (c *check) call(t *testing.T, endpoint string, takes, has time.Duration, result error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), has)
	defer cancel()
	_ = c.attempt(ctx, endpoint, takes, result)
}

func (c *check) attempt(ctx context.Context, endpoint string, takes time.Duration, result error) error {
	return c.unary(ctx, "", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		for _, o := range opts {
			if p, ok := o.(grpc.PeerCallOption); ok && endpoint != "" {
				*p.PeerAddr = peer.Peer{Addr: endpointAddr(endpoint)}
			}
		}
		select {
		case <-time.After(takes):
			return result
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

const (
	a, b, c = "a:1", "b:1", "c:1"
	attempt = 500 * time.Millisecond
	never   = time.Hour
)

func TestAnEndpointThatIsSilentIsLeftOutAfterOneTimeoutAndOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.set(b, true)
		began := time.Now()
		h.call(t, b, never, attempt, nil)
		synctest.Wait()
		if out := h.leftOut(); out != nil {
			t.Errorf("%v is left out before it was asked", out)
		}
		<-time.After(probeWithin)
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{b}) || !slices.Equal(h.current(), []string{a, c}) || !slices.Equal(h.use, []string{a, c}) {
			t.Fatalf("out %v, current %v, applied %v", out, h.current(), h.use)
		}
		if took := time.Since(began); took != attempt+probeWithin {
			t.Errorf("after %v", took)
		}
		// It is asked again and again, and taken in by its first answer.
		<-time.After(10 * (probeEvery + returnIn))
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{b}) {
			t.Errorf("out %v", out)
		}
		if n := h.asked[b]; n < 6 || n > 15 {
			t.Errorf("asked %d times in 30s", n)
		}
		h.set(b, false)
		<-time.After(2*probeEvery + returnIn)
		synctest.Wait()
		if out := h.leftOut(); out != nil || !slices.Equal(h.use, []string{a, b, c}) {
			t.Errorf("out %v, applied %v", out, h.use)
		}
	})
}

func TestAnEndpointThatOnlyAnswersQuestionsIsLeftOutAfterThreeTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		timeouts := func(n int) {
			for range n {
				h.call(t, a, never, attempt, nil)
				synctest.Wait()
			}
		}
		timeouts(maxTimeouts - 1)
		h.call(t, a, 0, attempt, nil)
		timeouts(maxTimeouts - 1)
		h.call(t, a, 0, attempt, errors.New("an answer, too"))
		timeouts(maxTimeouts - 1)
		if out := h.leftOut(); out != nil {
			t.Fatalf("%v is left out, though it has answered between", out)
		}
		timeouts(1)
		if out := h.leftOut(); !slices.Equal(out, []string{a}) {
			t.Errorf("out %v", out)
		}
	})
}

func TestTheLastEndpointIsNeverLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		for _, e := range []string{a, b, c} {
			h.set(e, true)
		}
		for range 10 {
			for _, e := range []string{a, b, c} {
				h.call(t, e, never, attempt, nil)
			}
		}
		synctest.Wait()
		if out := h.leftOut(); len(out) != 2 || len(h.current()) != 1 || len(h.use) != 1 {
			t.Fatalf("out %v, current %v, applied %v", out, h.current(), h.use)
		}
		// When another is taken in, the last one may go.
		last := h.current()[0]
		other := map[bool]string{true: a, false: b}[last != a]
		h.set(other, false)
		<-time.After(2*probeEvery + returnIn)
		synctest.Wait()
		h.call(t, last, never, attempt, nil)
		synctest.Wait()
		if got := h.current(); !slices.Equal(got, []string{other}) {
			t.Errorf("current %v, want %s", got, other)
		}
	})
}

// What says nothing about an endpoint: a caller who gave up, or had little time to begin with; a call that never got to one;
// a question; an endpoint that is not of the pool.
func TestOnlyAnAttemptThatHadItsTimeCountsAgainstAnEndpoint(t *testing.T) {
	for _, timeout := range []time.Duration{attempt, 0} { // zero: attempts have no bound but the caller's
		synctest.Test(t, func(t *testing.T) {
			h := newCheck(t, timeout, a, b)
			h.set(a, true)
			for range 2 * maxTimeouts {
				h.call(t, a, never, attempt/2, nil)
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(2*attempt, cancel)
				_ = h.attempt(ctx, a, never, nil)
				h.call(t, "", never, attempt, nil)
				h.call(t, "x:1", never, attempt, nil)
				ctx, cancel = context.WithTimeout(context.WithValue(context.Background(), bare{}, true), attempt)
				_ = h.attempt(ctx, a, never, nil)
				cancel()
			}
			synctest.Wait()
			if len(h.asked) > 0 || h.leftOut() != nil {
				t.Errorf("least %v: asked %v, out %v", timeout, h.asked, h.leftOut())
			}
			// The bound is the attempt's as a whole; of it a little has passed when it gets here.
			h.call(t, a, never, attempt-time.Millisecond, nil)
			synctest.Wait()
			if h.asked[a] != 1 {
				t.Errorf("least %v: asked %v", timeout, h.asked)
			}
		})
	}
}

func TestAnEndpointIsAskedByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		h.set(a, true)
		var all sync.WaitGroup
		for range 10 * maxTimeouts {
			all.Go(func() { h.call(t, a, never, attempt, nil) })
		}
		all.Wait()
		synctest.Wait()
		if n, out := h.asked[a], h.leftOut(); n != 1 || out != nil {
			t.Errorf("asked %d times at once, left out %v: a moment's silence counts once, however many met it", n, out)
		}
	})
}

// An endpoint that has answered traffic while it was asked is there, whatever became of the question.
func TestAnAnswerWhileItIsAskedKeepsAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		h.set(a, true)
		h.call(t, a, never, attempt, nil)
		h.call(t, a, 0, attempt, nil)
		<-time.After(probeWithin)
		synctest.Wait()
		if out := h.leftOut(); out != nil {
			t.Errorf("out %v", out)
		}
	})
}

// A call to a member waits for its leader: it is that one which must be found.
func TestWhenOneEndpointIsLateAllAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.says[a] = errNoCommit
		h.set(c, true)
		h.call(t, a, never, attempt, nil)
		<-time.After(probeWithin)
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{c}) {
			t.Errorf("out %v, want the leader, that nobody has called", out)
		}
	})
}

// While a leader is elected no endpoint answers traffic. Were they left out for that, the last one, which stays, could be the
// member that was lost.
func TestAnEndpointThatAnswersWithoutALeaderIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.says[a], h.says[b] = errNoLeader, errNoCommit
		h.set(c, true)
		for _, e := range []string{a, b, c} {
			h.call(t, e, never, attempt, nil)
		}
		<-time.After(probeWithin)
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{c}) {
			t.Errorf("out %v, want only the one that is silent", out)
		}
	})
}

func TestCloseOfHealthEndsItsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.set(a, true)
		h.call(t, a, never, attempt, nil)
		<-time.After(probeWithin)
		synctest.Wait() // a is waited for,
		h.set(b, true)
		h.call(t, b, never, attempt, nil) // and b is being asked
		began := time.Now()
		h.end()
		h.close()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		if out := h.leftOut(); !slices.Equal(out, []string{a}) {
			t.Errorf("out %v: the end of a question is no answer", out)
		}
		h.call(t, c, never, attempt, nil) // starts nothing: the bubble would wait for it
	})
}

// A member that is cut off from the others says that it has no leader, and goes on saying so. Calls that meet it fail.
func TestAMemberThatHasNoLeaderWhileOthersHaveIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.says[b] = errNoLeader
		h.call(t, b, 0, attempt, rpctypes.ErrGRPCNoLeader)
		<-time.After(askAgain - 1)
		synctest.Wait()
		if out := h.leftOut(); out != nil {
			t.Errorf("%v is left out, and may only be the last to know", out)
		}
		<-time.After(1)
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{b}) {
			t.Fatalf("left out: %v", out)
		}
		<-time.After(10 * probeEvery)
		if out := h.leftOut(); !slices.Equal(out, []string{b}) {
			t.Errorf("left out: %v, and it has no leader", out)
		}
		h.mu.Lock()
		delete(h.says, b)
		h.mu.Unlock()
		<-time.After(2 * probeEvery)
		synctest.Wait()
		if out := h.leftOut(); out != nil {
			t.Errorf("left out: %v, and it has a leader", out)
		}
	})
}

// During an election nobody has a leader, and afterwards one learns of it before the other.
func TestNobodyIsLeftOutForAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		for _, e := range []string{a, b, c} {
			h.says[e] = errNoLeader
		}
		for range 5 {
			h.call(t, b, 0, attempt, rpctypes.ErrGRPCNoLeader)
			<-time.After(2 * probeWithin)
		}
		if n := h.asks(a); n != 10 {
			t.Errorf("asked %d times", n)
		}
		h.call(t, b, 0, attempt, rpctypes.ErrGRPCNoLeader)
		synctest.Wait()
		for _, e := range []string{a, b, c} { // one after the other
			<-time.After(askAgain / 4)
			h.mu.Lock()
			delete(h.says, e)
			h.mu.Unlock()
		}
		<-time.After(never)
		if len(h.outs) > 0 {
			t.Errorf("left out: %v", h.outs)
		}
	})
}
