package orders

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// MailName is the queue of the mails that a service sends which is observed.
const MailName = "orders/mail"

const (
	mailEvery    = 500 * time.Millisecond // of each process
	mailTakes    = 40 * time.Millisecond  // to send
	mailAttempts = 3                      // until it is a dead letter
	mailBackoff  = 500 * time.Millisecond

	// countEvery is how often the leader counts what the queue holds: more often than usual, for those who look on.
	countEvery = 2 * time.Second
)

// Mail is what the queue holds. There is nobody to get it, so it says itself what becomes of it.
type Mail struct {
	From   string `json:"from"`
	Number int    `json:"number"` // of the mails of that process
}

// undeliverable reports whether the mail fails whenever it is tried: one of the first, and one a minute then.
func (m Mail) undeliverable() bool { return m.Number%120 == 3 }

// deferred reports whether it fails the first time.
func (m Mail) deferred() bool { return m.Number%10 == 5 }

// busy reports whether the mail server is, so that it has to be asked again.
func (m Mail) busy() bool { return m.Number%10 == 1 }

// mails has mails sent, and sends those of everybody, until ctx ends.
func (s *service) mails(ctx context.Context) {
	mails := queue.New[Mail](s.client, MailName, &queue.Options[Mail]{MaxAttempts: mailAttempts})
	s.parts.Go(func() { s.write(ctx, mails) })
	err := mails.Work(ctx, &queue.WorkOptions{
		Backoff:      retry.Policy{Initial: mailBackoff},
		DrainTimeout: time.Second,
		Session:      &session.Options{TTL: TTL},
	}, send)
	if err != nil {
		s.fail(err)
	}
}

// write pushes a mail now and then.
func (s *service) write(ctx context.Context, mails *queue.Queue[Mail]) {
	again := time.NewTicker(mailEvery)
	defer again.Stop()
	for number := 1; ; number++ {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
		if _, err := mails.Push(ctx, Mail{From: s.id, Number: number}, nil); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "mail:", err)
		}
	}
}

// send is the handler of a mail.
func send(ctx context.Context, d *queue.Delivery[Mail]) error {
	asked := 0
	err := retry.Do(ctx, politely, func(ctx context.Context) error {
		if asked++; asked == 1 && d.Item.busy() {
			return status.Error(codes.Unavailable, "the mail server is busy")
		}
		select {
		case <-time.After(mailTakes):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	switch {
	case err != nil:
		return err
	case d.Item.undeliverable():
		return errors.New("no such mailbox")
	case d.Item.deferred() && d.Attempt == 1:
		return errors.New("try again later")
	}
	return nil
}

// count has the queue's gauges tell what it holds, as long as ctx lasts: one process of all is enough.
func (s *service) count(ctx context.Context) {
	if err := queue.Report(ctx, s.client, &queue.ReportOptions{Queues: []string{MailName}, Every: countEvery}); err != nil {
		s.fail(err)
	}
}
