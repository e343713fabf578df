package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
)

// exampleClient is a client of the shared cluster. An example has no testing.TB, and closes it itself.
func exampleClient() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// Each order's total is added once, though its handler fails after the first attempt's work: what an attempt does to etcd comes with
// its acknowledgement, or not at all.
func ExampleDelivery_Ack() {
	client := exampleClient()
	defer client.Close()
	ctx, stop := context.WithCancel(context.Background())
	orders := queue.New[int](client, "example/totals", nil)
	ids, err := orders.PushMany(ctx, []int{30, 70}, nil)
	if err != nil {
		log.Fatal(err)
	}

	attempts, done := 0, 0
	err = orders.Work(ctx, nil, func(ctx context.Context, d *queue.Delivery[int]) error {
		if attempts++; d.Attempt == 1 {
			return retry.After(0, errors.New("the machine that does this has a bad day"))
		}
		err := d.Ack(ctx, clientv3.OpPut("example/billed/"+d.ID, fmt.Sprint(d.Item)))
		if done++; done == len(ids) {
			stop() // Work returns once this handler has
		}
		return err
	})
	billed, _ := client.Get(context.Background(), "example/billed/", clientv3.WithPrefix())
	fmt.Println(err, attempts, "attempts")
	for _, kv := range billed.Kvs {
		fmt.Println(string(kv.Value), kv.Version)
	}
	// Output:
	// <nil> 4 attempts
	// 30 1
	// 70 1
}

// An order and its job are written together, or not at all.
func ExampleQueue_PushOp() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	mail := queue.New[string](client, "example/outbox", nil)

	for range 2 {
		ops, cmps, err := mail.PushOp("thank you", nil)
		if err != nil {
			log.Fatal(err)
		}
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision("example/orders/7"), "=", 0))
		resp, err := client.Txn(ctx).If(cmps...).Then(append(ops, clientv3.OpPut("example/orders/7", "3 apples"))...).Commit()
		if err != nil {
			log.Fatal(err)
		}
		line, err := mail.Peek(ctx, 0)
		fmt.Println(resp.Succeeded, len(line), err)
	}
	// Output:
	// true 1 <nil>
	// false 1 <nil>
}

// What fails for good becomes a dead letter. When the cause is mended it is put back, under its ID.
func ExampleQueue_Redrive() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	mail := queue.New[string](client, "example/redriven", nil)
	if _, err := mail.Push(ctx, "hello", &queue.PushOptions{ID: "greeting/ann"}); err != nil {
		log.Fatal(err)
	}

	closed := errors.New("mailbox closed")
	once := func(handle func() error) {
		working, stop := context.WithCancel(ctx)
		_ = mail.Work(working, nil, func(context.Context, *queue.Delivery[string]) error {
			defer stop()
			return handle()
		})
	}
	once(func() error { return retry.Permanent(closed) })
	letters, err := mail.Dead(ctx, 0)
	for _, l := range letters {
		fmt.Println(l.ID, l.Item, l.Attempts, l.LastErr, err)
	}
	fmt.Println(mail.Redrive(ctx))
	once(func() error { return nil })
	stats, err := mail.Stats(ctx)
	fmt.Println(stats.Waiting, stats.InFlight, stats.Dead, err)
	// Output:
	// greeting/ann hello 1 mailbox closed <nil>
	// 1 <nil>
	// 0 0 0 <nil>
}

// A subscriber goes on after the position that it has remembered.
func ExampleTopic() {
	client := exampleClient()
	defer client.Close()
	ctx := context.Background()
	prices := queue.NewTopic[int](client, "example/prices", nil)

	at, err := prices.PublishMany(ctx, []int{30, 31, 29})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range prices.Subscribe(ctx, at[0]) {
		fmt.Println(m.Item, err)
		if m.Position == at[2] {
			break
		}
	}
	// Output:
	// 31 <nil>
	// 29 <nil>
}

// A test of a program that works on a queue, as docs/queues.md shows it.
func TestAGuidesTestOfAHandler(t *testing.T) {
	client := etcdtest.Client(t)
	mail := queue.New[string](client, etcdtest.Prefix(t)+"mail", &queue.Options[string]{MaxAttempts: 1})
	if _, err := mail.PushMany(t.Context(), []string{"ann", "nobody"}, nil); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mail.Work(ctx, nil, sendOrFail) }()
	defer func() { stop(); <-ended }()

	etcdtest.WaitQueueEmpty(t, 10*time.Second, client, mail.Name())
	dead := etcdtest.WaitDeadLetters(t, 10*time.Second, client, mail, 1)
	if dead[0].Item != "nobody" || dead[0].LastErr != "no such address" {
		t.Error(dead[0])
	}
}

func sendOrFail(_ context.Context, d *queue.Delivery[string]) error {
	if d.Item == "nobody" {
		return errors.New("no such address")
	}
	return nil
}

// A test of a program that pushes, as docs/queues.md shows it.
func TestAGuidesTestOfAProducer(t *testing.T) {
	client := etcdtest.Client(t)
	mail := queue.New[string](client, etcdtest.Prefix(t)+"mail", nil)
	if _, err := mail.PushMany(t.Context(), []string{"ann", "bob"}, &queue.PushOptions{Priority: 1}); err != nil {
		t.Fatal(err)
	}

	jobs := etcdtest.DrainQueue(t, 10*time.Second, client, mail)
	if len(jobs) != 2 || jobs[0].Item != "ann" || jobs[1].Priority != 1 {
		t.Error(jobs)
	}
}
