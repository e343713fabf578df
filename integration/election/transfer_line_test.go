package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// office is what all leaders of an election enter, and what is wrong with that.
type office struct {
	t       *testing.T
	leading atomic.Int32

	mu     sync.Mutex // guards what is below
	last   fence.Token
	served []string
}

// enter is one term up to its end, which end brings about: nobody else leads meanwhile, tokens rise, and what is written under the
// guard is not refused.
func (o *office) enter(term *election.Term, cli *clientv3.Client, who string, end func()) {
	o.t.Helper()
	if n := o.leading.Add(1); n != 1 {
		o.t.Errorf("%d lead at a time", n)
	}
	token := term.Guard().Token
	o.mu.Lock()
	if token <= o.last {
		o.t.Errorf("token %d follows %d", token, o.last)
	}
	o.last, o.served = token, append(o.served, who)
	o.mu.Unlock()
	if _, err := term.Guard().Commit(o.t.Context(), cli, clientv3.OpPut(term.Guard().Key[:strings.LastIndex(term.Guard().Key, "/")]+"-data", "")); err != nil {
		o.t.Errorf("%s: the write of a leader: %v", who, err)
	}
	if term.Context().Err() != nil {
		o.t.Errorf("%s: a term that nobody ended: %v", who, context.Cause(term.Context()))
	}
	o.leading.Add(-1)
	end()
}

// Those in a long line watch a few keys ahead of them, one by one. Whoever is right behind the leader sees it go in the very
// transaction that deletes its own key: it must not take that for its turn.
func TestATransferInALongLineMakesOneLeaderOnly(t *testing.T) {
	t.Parallel()
	const (
		length = 24 // a client each
		from   = 8  // the first few follow all of the line, which was short when they came
	)
	for what, to := range map[string]int{"to the third": from + 2, "to one further back": from + 9, "to the last": length - 1} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
			o := &office{t: t}
			var all sync.WaitGroup
			first := elected(t, open(t, oracle), name, "first")
			for i := range length {
				cli := etcdtest.Client(t)
				next := campaigning(t, open(t, cli), name, fmt.Sprint(i), i+2)
				all.Go(func() {
					term, ok := <-next
					if !ok {
						return
					}
					o.enter(term, cli, fmt.Sprint(i), func() {
						var err error
						if i == from {
							err = term.TransferTo(t.Context(), fmt.Sprint(to))
						}
						if err := errors.Join(err, term.Resign(t.Context())); err != nil {
							t.Errorf("%d: %v", i, err)
						}
					})
				})
			}
			resign(t, first)
			etcdtest.Returns(t, 3*soon, "serving the line", all.Wait)
			if len(o.served) != length || o.served[from+1] != fmt.Sprint(to) {
				t.Errorf("served %v, want each once and %d after %d", o.served, to, from)
			}
			etcdtest.WaitKeys(t, soon, oracle, name+"/", 0)
		})
	}
}

// Everybody who leads hands over to anybody, and stands again; others come and go, and nobody is in anybody's way.
func TestAnyNumberOfTransfersMakeOneLeaderAtATime(t *testing.T) {
	t.Parallel()
	for what, sharing := range map[string]int{"a client each": 1, "one client": 12} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const candidates, rounds = 12, 60
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			name := etcdtest.Prefix(t) + "name"
			o := &office{t: t}
			var (
				all       sync.WaitGroup
				terms     atomic.Int32
				transfers atomic.Int32
				cli       *clientv3.Client
			)
			ctx, enough := context.WithCancel(t.Context())
			defer enough()
			for i := range candidates {
				if i%sharing == 0 {
					cli = etcdtest.Client(t)
				}
				random, cli, s := rand.New(rand.NewPCG(seed, uint64(i))), cli, open(t, cli)
				lead := func(term *election.Term) {
					o.enter(term, cli, fmt.Sprint(i), func() {
						if terms.Add(1) == rounds {
							enough()
						}
						line, err := election.Candidates(t.Context(), cli, name)
						if err != nil {
							t.Error(err)
						}
						if len(line) > 1 {
							err = term.TransferTo(t.Context(), line[1+random.IntN(len(line)-1)].Key)
						}
						switch {
						case err == nil && len(line) > 1:
							transfers.Add(1)
						case !errors.Is(err, election.ErrNoCandidate) && err != nil:
							t.Error(err)
						}
						if err := term.Resign(t.Context()); err != nil {
							t.Errorf("Resign: %v", err)
						}
					})
				}
				all.Go(func() {
					for ctx.Err() == nil {
						wait, leave := context.WithCancel(ctx)
						if i%3 == 0 { // one who comes and goes
							go giveUp(cli.Watch(wait, name+"/", clientv3.WithPrefix()), 1+random.IntN(20), leave)
						}
						term, err := election.Campaign(wait, s, name, fmt.Sprint(i))
						leave()
						switch {
						case err == nil:
							lead(term)
						case !errors.Is(err, context.Canceled):
							t.Errorf("Campaign: %v", err)
						}
					}
				})
			}
			etcdtest.Returns(t, 6*soon, "all", all.Wait)
			t.Logf("%d terms, %d transfers", terms.Load(), transfers.Load())
			if n := transfers.Load(); n < rounds/2 {
				t.Errorf("%d transfers in %d terms", n, terms.Load())
			}
			etcdtest.WaitKeys(t, soon, etcdtest.Client(t), name+"/", 0)
		})
	}
}

// giveUp calls leave after so many changes.
func giveUp(changes clientv3.WatchChan, n int, leave func()) {
	for range changes {
		if n--; n == 0 {
			leave()
		}
	}
}
