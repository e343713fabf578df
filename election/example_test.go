package election_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"sync"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/session"
)

// A service of several processes of which one schedules. Run stands until it leads, and again when a term is
// lost; it returns when the work does, or with the process's context.
func ExampleRun() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	err = election.Run(ctx, client, "scheduler", "10.0.0.7:80", nil, func(ctx context.Context, term *election.Term) error {
		for ctx.Err() == nil {
			if _, err := term.Guard().Commit(ctx, client, clientv3.OpPut("schedule/next", "now")); err != nil {
				return err
			}
		}
		return nil // ctx has ended: by SIGTERM, or because the term was lost
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// Sixteen shards of work over a fleet: every process stands for each of them, through one session, and leads those that
// nobody else does. Without more, the first one up leads all; docs/elections.md shares them out.
func ExampleRun_shards() {
	var client *clientv3.Client // of clientv3.New
	work := func(ctx context.Context, shard int, g fence.Guard) error { return nil }

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	sessions := session.NewKeeper(client, nil)
	defer sessions.Close(ctx) // after all Runs have returned

	var runs sync.WaitGroup
	for shard := range 16 {
		runs.Go(func() {
			opts := &election.Options{Sessions: sessions}
			err := election.Run(ctx, client, fmt.Sprintf("shards/%d", shard), "10.0.0.7:80", opts,
				func(ctx context.Context, term *election.Term) error { return work(ctx, shard, term.Guard()) })
			if err != nil && !errors.Is(err, context.Canceled) {
				log.Print(err)
			}
		})
	}
	runs.Wait()
}

// On a deploy the old leader hands over to a process of the new version, and nobody waits for a TTL.
func ExampleTerm_TransferTo() {
	var client *clientv3.Client // of clientv3.New
	deployed := make(chan string)

	err := election.Run(context.Background(), client, "scheduler", "10.0.0.7:80", nil, func(ctx context.Context, term *election.Term) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case next := <-deployed: // the address that the new one stands with
				err := term.TransferTo(ctx, next)
				if errors.Is(err, election.ErrNoCandidate) || errors.Is(err, election.ErrInTheWay) {
					log.Print(err)
					continue // perhaps it is not up yet; this one leads on, or ctx has ended
				}
				return err
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A process whose work has not noticed that others lead is of no use to anybody: let it be restarted.
func ExampleHealth() {
	var (
		client *clientv3.Client // of clientv3.New
		health election.Health
	)
	http.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		if err := health.Check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	opts := &election.Options{Health: &health}
	err := election.Run(context.Background(), client, "scheduler", "10.0.0.7:80", opts, func(ctx context.Context, _ *election.Term) error {
		<-ctx.Done()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// With Campaign the term is the caller's to give up.
func ExampleCampaign() {
	var sess *session.Session // of session.Open

	ctx := context.Background()
	term, err := election.Campaign(ctx, sess, "scheduler", "10.0.0.7:80")
	if err != nil {
		log.Fatal(err)
	}
	if err := term.Proclaim(ctx, "10.0.0.7:80, 12 jobs"); errors.Is(err, fence.ErrLost) {
		log.Print("somebody else may lead by now")
	}
	if err := term.Resign(ctx); err != nil {
		log.Print(err)
	}
}

// Everybody may observe who leads, until the context ends.
func ExampleObserve() {
	var client *clientv3.Client // of clientv3.New

	for leader, err := range election.Observe(context.Background(), client, "scheduler") {
		switch {
		case err != nil:
			fmt.Println("not sure any more:", err)
		case leader.Token == 0:
			fmt.Println("nobody leads")
		default:
			fmt.Println("leader:", leader.Value)
		}
	}
}
