package orders

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// reportEvery is how often the leader brings its report up to date.
const reportEvery = 200 * time.Millisecond

// stand stands for leader, for as long as ctx lasts.
func (s *service) stand(ctx context.Context) {
	opts := &election.Options{Session: &session.Options{TTL: TTL}}
	err := election.Run(ctx, s.client, LeaderName, s.id, opts, s.lead)
	if ctx.Err() == nil {
		s.fail(err)
	}
}

// lead keeps the report until the term ends.
func (s *service) lead(ctx context.Context, term *election.Term) error {
	token := int64(term.Guard().Token)
	s.tell(Event{Kind: Leading, Token: token})
	defer s.tell(Event{Kind: Led, Token: token})
	if s.metrics != nil {
		s.parts.Go(func() { s.count(ctx) })
	}
	again := time.NewTicker(reportEvery)
	defer again.Stop()
	b := &book{kv: s.client, by: s.id}
	for {
		next, err := b.next(ctx)
		if err == nil {
			report := clientv3.OpPut(ReportKey, encode(Report{By: s.id, Token: token, Orders: next - 1}))
			err = retry.Do(ctx, forever, func(ctx context.Context) error {
				_, err := term.Guard().Commit(ctx, s.client, report)
				return err
			})
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "report:", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}
