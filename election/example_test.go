package election_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
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
