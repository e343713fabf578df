package orders

import (
	"context"
	"errors"
	"time"

	"github.com/etcdkit/etcdkit/config"
)

// healthEvery is how often the service looks at its own health.
const healthEvery = 20 * time.Millisecond

// reprice tells of every price that is taken, and of the first moment at which the newest ones are found refused.
func (s *service) reprice(ctx context.Context, prices *config.Value[Prices]) {
	s.parts.Go(func() {
		for p := range prices.Changes(ctx) {
			s.tell(Event{Kind: Priced, Discount: p.Value.Discount, Revision: p.Revision})
		}
	})
	health := time.NewTicker(healthEvery)
	defer health.Stop()
	refused := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-health.C:
		}
		err := prices.Err()
		switch {
		case !errors.Is(err, config.ErrRefused):
			refused = ""
		case err.Error() != refused:
			refused = err.Error()
			p := prices.Snapshot()
			s.tell(Event{Kind: Refused, Discount: p.Value.Discount, Revision: p.Revision, Reason: refused})
		}
	}
}
