package election_test

import (
	"context"
	"fmt"
	"log"

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
