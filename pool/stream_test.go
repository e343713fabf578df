package pool

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/etcdkit/etcdkit/retry"
)

// asks returns how often an endpoint was asked whether it is there.
func (c *check) asks(endpoint string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[endpoint]
}

func TestAMemberThatAnswersNoRequestOfAStreamIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b, c)
		h.set(b, true)
		began := time.Now()
		p := h.patience(b)
		p.begin()
		<-time.After(h.least / 2)
		p.begin() // as clientv3 repeats a renewal: it is the first that has waited
		<-time.After(h.least - h.least/2 + probeWithin)
		synctest.Wait()
		if out := h.leftOut(); !slices.Equal(out, []string{b}) {
			t.Fatalf("left out: %v after %v", out, time.Since(began))
		}
		for _, e := range []string{a, b, c} {
			if n := h.asks(e); n != 1 {
				t.Errorf("%s was asked %d times", e, n)
			}
		}
	})
}

// A stream may be silent for other reasons: what a member says when it is asked counts, however often that happens.
func TestAStreamsSilenceIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		p := h.patience(b)
		for range 3 * maxTimeouts {
			p.begin()
			<-time.After(never)
		}
		if out := h.leftOut(); out != nil {
			t.Errorf("left out: %v", out)
		}
		if n := h.asks(b); n != 3*maxTimeouts {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAnAnswerOnAStreamInTimeAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		answered, ended, late := h.patience(b), h.patience(b), h.patience(b)
		for range 5 {
			answered.begin()
			<-time.After(h.least - 1)
			answered.answered()
			<-time.After(never)
			answered.answered() // what nobody asked for
		}
		ended.begin()
		ended.end()
		late.end()
		late.begin()
		<-time.After(never)
		if n := h.asks(b); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// What a stream brings while a member is asked shows that it is there.
func TestAMemberHeardOnAStreamWhileItIsAskedIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCheck(t, attempt, a, b)
		h.set(b, true)
		h.patience(b).begin()
		<-time.After(h.least + probeWithin/2)
		other := h.patience(b)
		other.begin()
		other.answered()
		<-time.After(never)
		if out := h.leftOut(); out != nil {
			t.Errorf("left out: %v", out)
		}
	})
}

// A stream that is opened while its endpoint is being left out is none of those that are moved then.
func TestAStreamIsNotOpenedToAnEndpointThatIsLeftOut(t *testing.T) {
	one, other := newMember(t), newMember(t)
	p := openTo(t, Config{MaxLifetime: -1, Retry: retry.Policy{AttemptTimeout: soon, ReadTimeout: soon}}, one, other)
	address, err := addressOf(one.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p.health.mu.Lock()
	p.health.members[address].out = true // and gRPC has not heard of it yet
	p.health.mu.Unlock()
	for i := range 6 { // half of them would be
		// client/v3 sends watches with the same metadata through one stream.
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "watch", strconv.Itoa(i)))
		if _, ok := <-p.Client().Watch(ctx, "k", clientv3.WithRev(1)); !ok {
			t.Error("a watch ended")
		}
		c := p.watch.get()
		c.mu.Lock()
		for s := range maps.Keys(c.streams) {
			if s.address == address && !s.left.Load() {
				t.Errorf("a stream to %s", address)
			}
		}
		c.mu.Unlock()
		cancel()
	}
}
