package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// freeze stops a service that holds the lock for longer than its TTL, just before it writes, and lets it go on.
func (s *show) freeze(ctx context.Context) error {
	s.tellSaid = func(e said) string {
		switch {
		case e.Kind == orders.Stalled:
			return fmt.Sprintf("holds the lock, token %d, and is about to write order %d", e.Token, e.Number)
		case e.Kind == orders.Late && e.Lost:
			return fmt.Sprintf("writes order %d, too late: ownership lost", e.Number)
		case e.Kind == orders.Late:
			return fmt.Sprintf("writes order %d, too late: %s", e.Number, e.Reason)
		case e.Kind == orders.Leading:
			return fmt.Sprintf("leads, token %d", e.Token)
		case e.Kind == orders.Peers && e.id == you:
			return "sees " + strings.Join(e.IDs, " ")
		}
		return ""
	}
	leads, err := s.leader(ctx)
	if err != nil {
		return err
	}
	// Not the leader, which is another matter, nor who has held the lock the last time.
	rest := s.others(leads.value)
	frozen := s.actor(rest[len(rest)-1])
	if err := frozen.proc.Say(fmt.Sprintf("%s %v", orders.TaskStall, orders.TTL)); err != nil {
		return err
	}
	var f fencing
	var key string
	err = s.until(ctx, "the lock held by "+frozen.id, func(e evidence) bool {
		stalled, _ := e.heard(func(s said) bool { return s.id == frozen.id && s.Kind == orders.Stalled })
		own := reignOf(e.writes.reigns(orders.LockName), stalled.Token)
		if own == nil {
			return false
		}
		f.token, f.number, key = own.token, stalled.Number, own.key
		return true
	})
	if err != nil {
		return err
	}
	if err := frozen.proc.Freeze(); err != nil {
		return err
	}
	s.say("freezes %s (SIGSTOP), and tells it to write when it wakes", frozen.id)
	if err := frozen.proc.Say(orders.TaskGoOn); err != nil {
		return err
	}
	s.tellWrite = func(w write) string {
		switch {
		case w.key == orders.BookKey(f.number):
			e := history{w}.entries()[0]
			return fmt.Sprintf("has order %d, by %s, token %d", e.Number, e.By, e.Token)
		case w.deleted && w.key == key:
			return "deletes the key that held the lock: its lease has expired"
		}
		return ""
	}
	err = s.until(ctx, "the lock held by another; the TTL is "+seconds(orders.TTL), func(e evidence) bool {
		_, registered := e.writes.present(registryPrefix)[frozen.id]
		_, written := e.writes.present(orders.BookPrefix)[strings.TrimPrefix(orders.BookKey(f.number), orders.BookPrefix)]
		return written && !registered
	})
	if err != nil {
		return err
	}
	f.thawed = time.Now()
	if err := frozen.proc.Thaw(); err != nil {
		return err
	}
	s.line(f.thawed, you, fmt.Sprintf("wakes %s (SIGCONT)", frozen.id))
	err = s.prove(ctx, promiseFence, "the late write", func(e evidence) (string, error) {
		return f.with(e, frozen.id).check()
	})
	if err != nil {
		return err
	}
	s.tellWrite = nil
	return s.proveDiscovery(ctx, promiseReturn, f.thawed)
}
