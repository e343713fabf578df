package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// dismiss stops the service in order: first the process that leads, then the others together.
func (s *show) dismiss(ctx context.Context) error {
	s.tellSaid = func(e said) string {
		switch {
		case e.Kind == orders.Stopped:
			return "stopped"
		case e.Kind == orders.Leading:
			return fmt.Sprintf("leads, token %d", e.Token)
		case e.Kind == orders.Peers && e.id == you && len(e.IDs) == 0:
			return "sees none"
		case e.Kind == orders.Peers && e.id == you:
			return "sees " + strings.Join(e.IDs, " ")
		}
		return ""
	}
	leads, err := s.leader(ctx)
	if err != nil {
		return err
	}
	var f farewell
	f.leader, f.token = leads.value, leads.token
	rest := s.others(leads.value)
	if err := s.bid(ctx, &f, leads.value); err != nil {
		return err
	}
	// The next one begins to lead before it is told to stop.
	err = s.until(ctx, "the next leader", func(e evidence) bool {
		_, ok := e.heard(func(s said) bool { return s.Kind == orders.Leading && s.Token > leads.token })
		return ok
	})
	if err != nil {
		return err
	}
	if err := s.bid(ctx, &f, rest...); err != nil {
		return err
	}
	return s.prove(ctx, promiseFarewell, "all gone", func(e evidence) (string, error) { return f.with(e).check() })
}

// bid tells processes of the service to stop, and waits for their end.
func (s *show) bid(ctx context.Context, f *farewell, ids ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s not stopped within %v", strings.Join(ids, " "), patience))
	defer cancel()
	asked := time.Now()
	for _, id := range ids {
		a := s.actor(id)
		f.departures = append(f.departures, departure{id: id, pid: a.proc.PID(), asked: asked})
		if err := a.ask(); err != nil {
			return err
		}
	}
	s.line(asked, you, "stops "+strings.Join(ids, " ")+" (SIGTERM)")
	for _, id := range ids {
		a := s.actor(id)
		i := slices.IndexFunc(f.departures, func(d departure) bool { return d.id == id })
		exit := a.proc.Wait(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.departures[i].exit = exit
		<-a.heard
		s.alive = s.others(id)
	}
	return nil
}

// audit judges the whole run by etcd's history.
func (s *show) audit(ctx context.Context) error {
	s.tellSaid, s.tellWrite = nil, nil
	newest, err := s.revision(ctx)
	if err != nil {
		return err
	}
	err = s.until(ctx, "the rest of etcd's history", func(e evidence) bool { return e.writes.revision() >= newest })
	if err != nil {
		return err
	}
	known, _, _ := s.now()
	return errors.Join(
		s.found(judge(promiseBook, bookkeeping{known.writes}.check)),
		s.found(judge(promiseReign, reigned(known).check)),
	)
}

// clear stops etcd, and sees that no process is left.
func (s *show) clear(ctx context.Context) error {
	s.say("stops etcd's members")
	if err := s.cluster.Stop(ctx); err != nil {
		return err
	}
	c := cleanup{started: len(s.pids), members: map[string]error{}}
	for i := range s.cluster.Size() {
		c.members[memberName(i)] = s.cluster.Process(i).Err()
	}
	for _, pid := range s.pids {
		if running(pid) {
			c.alive = append(c.alive, pid)
		}
	}
	return s.found(judge(promiseCleanup, c.check))
}

// running reports whether there is a process of that id.
func running(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}
