package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// leftOutAlone waits until exactly these endpoints are left out, and makes no call meanwhile.
func leftOutAlone(t *testing.T, p *pool.Pool, want ...string) {
	t.Helper()
	etcdtest.Eventually(t, 3*soon, fmt.Sprintf("left out: %v", want), func(context.Context) error {
		if out := p.Stats().LeftOut; !slices.Equal(out, want) {
			return fmt.Errorf("it is %v", out)
		}
		return nil
	})
}

// carrier waits until answers come through one of the links alone, for a while, and returns it.
func carrier(t *testing.T, links etcdtest.Links) *etcdtest.Link {
	t.Helper()
	const whiles = 3
	var same *etcdtest.Link
	for n := 0; n < whiles; n++ {
		var passed []*etcdtest.Link
		before := map[*etcdtest.Link]int64{}
		for _, l := range links {
			before[l] = l.Passed(etcdtest.Responses)
		}
		<-time.After(1200 * time.Millisecond) // a view asks once a second
		for _, l := range links {
			if l.Passed(etcdtest.Responses) > before[l] {
				passed = append(passed, l)
			}
		}
		if len(passed) != 1 || same != nil && same != passed[0] {
			n, same = -1, nil
			continue
		}
		same = passed[0]
	}
	return same
}

// F1, F4: a process that does nothing but to renew a lease learns of an endpoint that swallows everything from that, and the lease
// lives on.
func TestASessionAloneFindsOutAnEndpointThatSwallowsPackets(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 3)
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	s, err := session.Open(t.Context(), p.Client(), &session.Options{TTL: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range links {
		bad.Blackhole(etcdtest.Both)
		began := time.Now()
		leftOutAlone(t, p, bad.Endpoint())
		t.Logf("left out after %v", time.Since(began).Round(time.Millisecond))
		bad.Heal()
		leftOutAlone(t, p)
	}
	if err := s.Close(t.Context()); err != nil || !errors.Is(context.Cause(s.Context()), session.ErrClosed) {
		t.Errorf("the session ends with %v and %v", context.Cause(s.Context()), err)
	}
}

// Likewise one that does nothing but to watch: by the questions how far its watch has got.
func TestAViewAloneFindsOutAnEndpointThatSwallowsPackets(t *testing.T) {
	t.Parallel()
	links := linksTo(t, 3)
	p := open(t, pool.Config{Endpoints: links.Endpoints()})
	v, err := registry.Watch(t.Context(), p.Client(), "mail", &registry.ViewOptions{Prefix: strings.TrimSuffix(etcdtest.Prefix(t), "/")})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for range 2 {
		bad := carrier(t, links)
		bad.Blackhole(etcdtest.Both)
		began := time.Now()
		leftOutAlone(t, p, bad.Endpoint())
		t.Logf("left out after %v", time.Since(began).Round(time.Millisecond))
		bad.Heal()
		leftOutAlone(t, p)
	}
}

// F3: a member that is cut off from the others has no leader, and refuses what needs one. It is left out, and no read fails: not
// of many callers at once either, who would meet it again and again.
func TestAMemberThatIsCutOffFromTheOthersIsLeftOut(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, &etcdtest.Options{Members: 3, Tick: 50 * time.Millisecond})
	p := open(t, pool.Config{Endpoints: c.Endpoints()})
	etcd, key := p.Client(), etcdtest.Prefix(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for range 24 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := etcd.Get(ctx, key); err != nil && ctx.Err() == nil {
					t.Errorf("a read: %v", err)
				}
			}
		})
	}
	cutOff := c.Follower()
	c.Partition(cutOff)
	leftOutAlone(t, p, c.Endpoint(cutOff))
	c.HealPartition()
	leftOutAlone(t, p)
	stop()
	callers.Wait()
	if _, err := etcd.Put(t.Context(), key, ""); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a put afterwards: %v", err)
	}
}
