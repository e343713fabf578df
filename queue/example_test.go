package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/retry"
	"github.com/etcdkit/etcdkit/session"
)

// Email is what the jobs of the examples are about.
type Email struct {
	To       string `json:"to"`
	Template string `json:"template"`
	Day      string `json:"day,omitempty"`
}

// Price is what the messages of the examples are about.
type Price struct {
	Item  string `json:"item"`
	Cents int    `json:"cents"`
}

// A program that pushes, and works. Mostly those are two, with the same New.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	mail := queue.New[Email](client, "mail", nil)

	if _, err := mail.Push(ctx, Email{To: "ann@example.org", Template: "welcome"}, nil); err != nil {
		log.Print(err) // says whether the job may be in the queue all the same
	}

	err = mail.Work(ctx, &queue.WorkOptions{Concurrency: 8}, func(ctx context.Context, d *queue.Delivery[Email]) error {
		return send(ctx, d.ID, d.Item) // nil: done; an error: again, later
	})
	if err != nil {
		log.Fatal(err) // of the options: Work ends with nil when ctx does
	}
}

// All that a push can be told.
func ExampleQueue_Push() {
	var mail *queue.Queue[Email] // see Example
	ctx := context.Background()
	email := Email{To: "ann@example.org", Template: "invoice"}

	id, err := mail.Push(ctx, email, &queue.PushOptions{
		ID:       "invoice/4711",   // pushed twice it is one job
		Priority: 10,               // -99 to 99; higher ones are claimed first
		Delay:    10 * time.Minute, // not before
		Key:      "customer 12",    // one at a time, in order
	})
	log.Print(id, err)
}

// What became of a push that failed.
func ExamplePushError() {
	var mail *queue.Queue[Email] // see Example
	ctx := context.Background()
	var emails []Email

	ids, err := mail.PushMany(ctx, emails, nil)
	var failed *queue.PushError
	switch {
	case err == nil:
		log.Print(ids)
	case errors.Is(err, queue.ErrFull):
		log.Print("too much to do: later, or fewer") // Options.MaxDepth
	case errors.Is(err, queue.ErrTooLarge):
		log.Print("put it elsewhere, and push where it is")
	case errors.As(err, &failed) && failed.Unknown > 0:
		log.Printf("%d are in the queue, and the next %d perhaps: %v", failed.Written, failed.Unknown, err)
	default:
		log.Print(err)
	}
}

// What a handler returns decides what becomes of the job.
func ExampleQueue_Work() {
	ctx := context.Background()
	var mail *queue.Queue[Email] // see Example

	opts := &queue.WorkOptions{
		Concurrency: 8,
		Timeout:     time.Minute,                                              // of a handler
		Backoff:     retry.Policy{Initial: time.Second, Max: 5 * time.Minute}, // the defaults
	}
	err := mail.Work(ctx, opts, func(ctx context.Context, d *queue.Delivery[Email]) error {
		err := send(ctx, d.ID, d.Item)
		switch {
		case errors.Is(err, errNoSuchAddress):
			return retry.Permanent(err) // a dead letter, at once
		case errors.Is(err, errTooManyMails):
			return retry.After(time.Hour, err) // again, but not before
		}
		return err // again, after a wait that grows; nil: done
	})
	if err != nil {
		log.Fatal(err)
	}
}

// The next job is pushed by the acknowledgement of this one: neither is lost, and there is one.
func ExampleDelivery_Ack() {
	ctx := context.Background()
	var (
		orders *queue.Queue[string] // to be packed
		mail   *queue.Queue[Email]
	)

	err := orders.Work(ctx, nil, func(ctx context.Context, d *queue.Delivery[string]) error {
		parcel, err := pack(ctx, d.Item)
		if err != nil {
			return err
		}
		next, _, err := mail.PushOp(Email{To: parcel.Customer, Template: "on its way"}, nil)
		if err != nil {
			return retry.Permanent(err)
		}
		return d.Ack(ctx, append(next, clientv3.OpPut("parcels/"+d.ID, parcel.Number))...)
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A write on the way, which is refused once another has the job.
func ExampleDelivery_Guard() {
	ctx := context.Background()
	var (
		client  *clientv3.Client // see Example
		imports *queue.Queue[string]
	)

	err := imports.Work(ctx, nil, func(ctx context.Context, d *queue.Delivery[string]) error {
		for part := range 100 {
			if err := load(ctx, d.Item, part); err != nil {
				return err
			}
			if _, err := d.Guard().Commit(ctx, client, clientv3.OpPut("loaded/"+d.ID, fmt.Sprint(part))); err != nil {
				return err // fence.ErrLost: another has it, or will
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A handler that takes long looks whether the job is still its own.
func ExampleDelivery_Context() {
	ctx := context.Background()
	var imports *queue.Queue[string] // see Example

	opts := &queue.WorkOptions{Session: &session.Options{TTL: 5 * time.Second}} // how long a dead worker keeps its jobs
	err := imports.Work(ctx, opts, func(ctx context.Context, d *queue.Delivery[string]) error {
		err := load(ctx, d.Item, 0)
		if errors.Is(context.Cause(ctx), fence.ErrLost) {
			log.Printf("%s, attempt %d: lost on the way: %v", d.ID, d.Attempt, context.Cause(ctx))
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// An order and the mail about it are written in one transaction of the program's own.
func ExampleQueue_PushOp() {
	var (
		client *clientv3.Client // see Example
		mail   *queue.Queue[Email]
	)

	place := func(ctx context.Context, id, order, customer string) error {
		ops, cmps, err := mail.PushOp(Email{To: customer, Template: "thanks"}, nil)
		if err != nil {
			return err
		}
		key := "orders/" + id
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		resp, err := client.Txn(ctx).If(cmps...).Then(append(ops, clientv3.OpPut(key, order))...).Commit()
		if err == nil && !resp.Succeeded {
			log.Print("that order is there, and its job was pushed with it")
		}
		return err // if it is ambiguous, place it again: the order's key is compared
	}
	_ = place
}

// For a dashboard and an alert. Every Queue counts once a second at most.
func ExampleQueue_Stats() {
	var mail *queue.Queue[Email] // see Example

	http.HandleFunc("/queue", func(w http.ResponseWriter, r *http.Request) {
		s, err := mail.Stats(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "waiting %d, for up to %v; in flight %d; dead %d; workers %d\n",
			s.Waiting, s.Oldest, s.InFlight, s.Dead, s.Workers)
	})
}

// What has failed too often is looked at, and put back once the cause is mended.
func ExampleQueue_Dead() {
	ctx := context.Background()
	var mail *queue.Queue[Email] // see Example

	letters, err := mail.Dead(ctx, 100)
	if err != nil {
		log.Fatal(err)
	}
	var again []string
	for _, l := range letters {
		log.Printf("%s died at %v after %d attempts: %s", l.ID, l.Died, l.Attempts, l.LastErr)
		if l.Err == nil { // else the item cannot be decoded: l.Raw
			again = append(again, l.ID)
		}
	}
	if len(again) > 0 { // without IDs Redrive puts back all
		n, err := mail.Redrive(ctx, again...)
		log.Print(n, err)
	}
}

// One job a day, whoever is there.
func ExampleSchedule() {
	ctx := context.Background()
	var (
		mail   *queue.Queue[Email] // see Example
		berlin *time.Location      // see time.LoadLocation
	)

	err := queue.Schedule(ctx, mail, "digest", "30 2 * * *", &queue.ScheduleOptions{
		Location: berlin, // time.LoadLocation("Europe/Berlin"); default UTC
		Missed:   queue.MissedOnce,
	}, func(tick time.Time) (Email, *queue.PushOptions, error) {
		return Email{Template: "digest", Day: tick.Format(time.DateOnly)}, nil, nil
	})
	if err != nil {
		log.Fatal(err) // of the arguments: nil once ctx has ended
	}
}

// All subscribers get every message, and go on where they were.
func ExampleTopic() {
	ctx := context.Background()
	var client *clientv3.Client // see Example

	prices := queue.NewTopic[Price](client, "prices", &queue.TopicOptions[Price]{KeepFor: 24 * time.Hour, KeepMessages: -1})

	if _, err := prices.Publish(ctx, Price{Item: "apple", Cents: 30}); err != nil {
		log.Print(err)
	}

	for m, err := range prices.Subscribe(ctx, remembered()) {
		var gap *queue.GapError
		var broken *queue.DecodeError
		switch {
		case errors.As(err, &gap):
			log.Print(gap) // messages are missing: read the whole of it anew from where they come from
		case errors.As(err, &broken):
			log.Print(broken) // m.Raw is what it is
		case err != nil:
			log.Fatal(err) // the end
		default:
			apply(m.Item, m.Position) // store both together
		}
	}
}

var (
	errNoSuchAddress = errors.New("no such address")
	errTooManyMails  = errors.New("too many mails today")
)

// parcel is what an order was packed into.
type parcel struct{ Customer, Number string }

// What the examples' programs do.

func send(context.Context, string, Email) error       { return nil }
func pack(context.Context, string) (parcel, error)    { return parcel{}, nil }
func load(ctx context.Context, _ string, _ int) error { return ctx.Err() }
func remembered() queue.Position                      { return queue.Position{} }
func apply(Price, queue.Position)                     {}
