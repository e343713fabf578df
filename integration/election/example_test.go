package election_test

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/session"
)

func ExampleRun() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	err = election.Run(ctx, client, "scheduler", "10.0.0.7:80", nil, func(ctx context.Context, term *election.Term) error {
		leader, err := election.Current(ctx, client, "scheduler")
		fmt.Println("leader:", leader.Value, leader.Token == term.Guard().Token)
		return err
	})
	fmt.Println("resigned:", err)
	_, err = election.Current(ctx, client, "scheduler")
	fmt.Println(err)
	// Output:
	// leader: 10.0.0.7:80 true
	// resigned: <nil>
	// election "scheduler": election: nobody leads
}

// process is one of a fleet that shares shards out among itself: it stands for each, and hands on what it leads beyond its share.
type process struct {
	name     string
	client   *clientv3.Client
	sessions *session.Keeper
	mine     atomic.Int32 // how many shards it leads, and has not begun to hand on
}

// run stands for a shard until ctx ends, and again after each time that it has handed it on.
func (p *process) run(ctx context.Context, shard string, shards int) {
	opts := &election.Options{Sessions: p.sessions}
	for ctx.Err() == nil {
		_ = election.Run(ctx, p.client, shard, p.name, opts, func(ctx context.Context, term *election.Term) error {
			p.mine.Add(1)
			tick := time.NewTicker(10 * time.Millisecond) // a minute, say
			defer tick.Stop()
			for {
				select {
				case <-tick.C: // here it works
				case <-ctx.Done():
					p.mine.Add(-1)
					return nil
				}
				fleet, err := election.Candidates(ctx, p.client, shard)
				if err != nil || len(fleet) == 0 {
					continue
				}
				share := (shards + len(fleet) - 1) / len(fleet)
				if left := p.mine.Add(-1); int(left) >= share {
					return term.TransferTo(ctx, fleet[1+rand.IntN(len(fleet)-1)].Key)
				}
				p.mine.Add(1)
			}
		})
	}
}

func ExampleRun_shards() {
	const shards = 6
	ctx, stop := context.WithCancel(context.Background())
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	var runs sync.WaitGroup
	fleet := make([]*process, 3)
	for i := range fleet {
		p := &process{name: string(rune('a' + i)), client: client, sessions: session.NewKeeper(client, nil)}
		fleet[i] = p
		for shard := range shards {
			runs.Go(func() { p.run(ctx, fmt.Sprintf("shards/%d", shard), shards) })
		}
	}
	for even := false; !even; {
		leads := map[string]int{}
		for shard := range shards {
			leader, err := election.Current(ctx, client, fmt.Sprintf("shards/%d", shard))
			if err == nil {
				leads[leader.Value]++
			}
		}
		even = leads["a"] == 2 && leads["b"] == 2 && leads["c"] == 2
	}
	fmt.Println("a, b and c lead two each")
	stop()
	runs.Wait()
	for _, p := range fleet {
		if err := p.sessions.Close(context.Background()); err != nil {
			log.Print(err)
		}
	}
	// Output:
	// a, b and c lead two each
}

func ExampleObserve() {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	sess, err := session.Open(ctx, client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(ctx)

	var term *election.Term
	for leader, err := range election.Observe(ctx, client, "reporter") {
		if err != nil {
			continue // not sure any more
		}
		switch leader.Value {
		case "":
			fmt.Println("nobody leads")
			if term != nil {
				return
			}
			if term, err = election.Campaign(ctx, sess, "reporter", "10.0.0.7:80"); err != nil {
				log.Fatal(err)
			}
		case "10.0.0.7:80":
			fmt.Println("leader:", leader.Value)
			if err := term.Proclaim(ctx, "10.0.0.7:80, busy"); err != nil {
				log.Fatal(err)
			}
		default:
			fmt.Println("leader:", leader.Value)
			if err := term.Resign(ctx); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// nobody leads
	// leader: 10.0.0.7:80
	// leader: 10.0.0.7:80, busy
	// nobody leads
}
