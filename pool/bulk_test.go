package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Health tells the connections of Do of its endpoints, and those ask for them when they are opened: neither may hold its own lock
// while it waits for the other's.
func TestOpeningConnectionsAndLeavingOutEndpointsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	one, two := newMember(t), newMember(t)
	p := openTo(t, Config{MaxConnections: 8, AcquireTimeout: soon}, one, two)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	all.Go(func() {
		address, _ := addressOf(one.endpoint)
		for ctx.Err() == nil {
			p.health.mu.Lock()
			m := p.health.members[address]
			m.out = !m.out
			p.health.apply(p.health.using(), one.endpoint)
			p.health.mu.Unlock()
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range 15 {
					err := p.Do(t.Context(), func(context.Context, *clientv3.Client) error { p.bulk.closeAll(); return nil })
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(3 * soon):
		t.Fatal("they wait for each other") // and Close, too, will
	}
	stop()
	all.Wait()
	if n := len(p.bulk.list()); n > 8 {
		t.Errorf("%d connections", n)
	}
}

// A connection that is being opened, and those who wait for it, end with the pool: Close waits for them.
func TestCloseEndsTheOpeningOfConnections(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	p, err := Open(t.Context(), Config{Endpoints: []string{m.endpoint}, MaxConnections: 1, AcquireTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	// From now on nothing accepts connections.
	p.health.mu.Lock()
	for _, m := range p.health.members {
		m.endpoint = "http://127.0.0.1:1"
	}
	p.health.mu.Unlock()
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			if err := p.Do(t.Context(), nil); !errors.Is(err, ErrClosed) {
				t.Errorf("Do: %v, want ErrClosed", err)
			}
		})
	}
	for { // until one of them opens a connection
		p.bulk.mu.Lock()
		opening := p.bulk.opening
		p.bulk.mu.Unlock()
		if opening == 1 {
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	p.bulk.mu.Lock()
	if p.bulk.opening != 0 {
		t.Errorf("Close did not wait for %d openings", p.bulk.opening)
	}
	p.bulk.mu.Unlock()
	callers.Wait()
}
