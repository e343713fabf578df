package demo

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// The discounts that the demo sets, one after the other.
const (
	firstDiscount = 10
	nextDiscount  = 25
	badDiscount   = 140
	lastDiscount  = 30
)

// discover starts the service.
func (s *show) discover(ctx context.Context) error {
	s.tellSaid = func(e said) string {
		switch {
		case e.Kind == orders.Registered:
			return "registered, can be called at " + e.Addr
		case e.Kind == orders.Peers && slices.Equal(e.IDs, s.alive):
			return "sees " + strings.Join(e.IDs, " ")
		}
		return ""
	}
	if _, _, err := s.put(ctx, prices(firstDiscount)); err != nil {
		return err
	}
	began := time.Now()
	for _, id := range []string{"a", "b", "c"} {
		if err := s.start(id); err != nil {
			return err
		}
		s.say("starts %s, process %d", id, s.actor(id).proc.PID())
	}
	return s.proveDiscovery(ctx, promiseDiscovery, began)
}

// proveDiscovery waits until all that are alive have found each other.
func (s *show) proveDiscovery(ctx context.Context, promise string, since time.Time) error {
	ids := slices.Clone(s.alive)
	return s.prove(ctx, promise, "all see "+strings.Join(ids, " "), func(e evidence) (string, error) {
		d := discovered(e, ids, since)
		if seen, err := d.check(); err != nil {
			return seen, err
		}
		// The watch says so. Now a plain read has to.
		var err error
		if d.etcd, err = read(ctx, s.plain, registryPrefix); err != nil {
			return "", err
		}
		return d.check()
	})
}

// reprice changes the configuration.
func (s *show) reprice(ctx context.Context) error {
	s.tellSaid = s.tellPrices
	put, revision, err := s.put(ctx, prices(nextDiscount))
	if err != nil {
		return err
	}
	return s.prove(ctx, promiseRepricing, "all sell at the new price", func(e evidence) (string, error) {
		return repriced(e, s.alive, put, revision, nextDiscount).check()
	})
}

// refuse makes a bad change of the configuration, and then a good one.
func (s *show) refuse(ctx context.Context) error {
	s.tellSaid = s.tellPrices
	put, revision, err := s.put(ctx, prices(badDiscount))
	if err != nil {
		return err
	}
	err = s.prove(ctx, promiseRefusal, "all sell at the old price", func(e evidence) (string, error) {
		r := refused(e, s.alive, put, revision)
		if seen, err := r.check(); err != nil {
			return seen, err
		}
		stored, err := read(ctx, s.plain, orders.ConfigKey)
		if err != nil {
			return "", err
		}
		r.stored = stored[""].revision
		return r.check()
	})
	if err != nil {
		return err
	}
	put, revision, err = s.put(ctx, prices(lastDiscount))
	if err != nil {
		return err
	}
	return s.until(ctx, "all sell at the last price", func(e evidence) bool {
		_, err := repriced(e, s.alive, put, revision, lastDiscount).check()
		return err == nil
	})
}

func (s *show) tellPrices(e said) string {
	switch e.Kind {
	case orders.Priced:
		return "sells at " + strconv.Itoa(e.Discount) + " % off"
	case orders.Refused:
		parts := strings.Split(e.Reason, ": ") // the last one is the service's own
		return "refuses it: " + parts[len(parts)-1] + "; keeps " + strconv.Itoa(e.Discount) + " %"
	default:
		return ""
	}
}

// prices is a document for the service's configuration.
func prices(discount int) string { return `{"discount": ` + strconv.Itoa(discount) + `}` }
