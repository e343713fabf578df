package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exposed"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

const (
	// gently is how long the processes of the service wait between two orders while somebody looks on.
	gently = time.Second

	// ownMetrics is where the demo's own process shows its metrics, and metricsPath where it shows everybody's.
	ownMetrics  = "/metrics/demo"
	metricsPath = "/metrics"
)

// observe serves the metrics of all processes on a listener until the demo ends.
func (s *show) observe(listener net.Listener) error {
	own, err := exposed.Install()
	if err != nil {
		return err
	}
	at := "http://" + listener.Addr().String()
	pages := http.NewServeMux()
	pages.Handle("GET "+ownMetrics, own)
	pages.Handle("GET "+metricsPath, newFederation(func() []source { return s.sources(at) }))
	s.unobserve = serveMetrics(listener, pages)
	s.metricsURL = at + metricsPath
	return nil
}

// sources are the demo itself, etcd's members, and the processes of the service that have said where they can be called. Those that
// are dead are among them: a process that does not show anything is something to be seen.
func (s *show) sources(own string) []source {
	all := []source{{job: you, instance: you, url: own + ownMetrics}}
	if endpoints := s.members.Load(); endpoints != nil {
		for i, endpoint := range *endpoints {
			all = append(all, source{job: etcd, instance: memberName(i), url: endpoint + "/metrics"})
		}
	}
	known, _, _ := s.now()
	at := map[string]int{}
	for _, e := range known.said {
		if e.Kind != orders.Registered {
			continue
		}
		i, again := at[e.id]
		if !again {
			i = len(all)
			at[e.id] = i
			all = append(all, source{})
		}
		all[i] = source{job: orders.Name, instance: e.id, url: "http://" + e.Addr + "/metrics"}
	}
	return all
}

// stay has the service go on, with less to do, until ctx ends, which is what it waits for.
func (s *show) stay(ctx context.Context) error {
	s.tellSaid, s.tellWrite = nil, nil
	for _, id := range s.alive {
		if err := s.actor(id).proc.Say(fmt.Sprintf("%s %v", orders.TaskPace, gently)); err != nil {
			return err
		}
	}
	s.say("leaves %d processes to their orders and mails; metrics are at %s", len(s.alive), s.metricsURL)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	defer s.Status("")
	for {
		known, more, failure := s.now()
		s.narrate(known)
		switch {
		case failure != nil:
			return failure
		case s.Err() != nil:
			return s.Err()
		}
		select {
		case <-tick.C: // not more often: there is nothing to wait for
		case <-ctx.Done():
			return nil
		}
		select {
		case <-more:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s.waiting("Ctrl-C stops the service, and judges the whole run")
	}
}
