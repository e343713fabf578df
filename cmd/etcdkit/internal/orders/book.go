package orders

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/retry"
)

// Where the service keeps what it has in etcd.
const (
	ConfigKey  = "orders/config"
	LeaderName = "orders/leader"
	LockName   = "orders/numbering"
	BookPrefix = "orders/book/"
	LastKey    = "orders/last"
	ReportKey  = "orders/report"
)

// Order is an entry of the book.
type Order struct {
	Number   int    `json:"number"`
	By       string `json:"by"`
	Discount int    `json:"discount"`
	Token    int64  `json:"token"` // of the lock it was numbered under
}

// Report is what the leader keeps.
type Report struct {
	By     string `json:"by"`
	Token  int64  `json:"token"` // of the term
	Orders int    `json:"orders"`
}

// BookKey is where the order of a number is.
func BookKey(number int) string { return fmt.Sprintf("%s%06d", BookPrefix, number) }

// forever is the policy of work that a lock or a term bounds: it is tried again as long as the context lasts,
// each attempt at another endpoint.
var forever = retry.Policy{MaxAttempts: -1, MaxElapsed: -1, Retryable: retry.Idempotent}

// book numbers orders.
type book struct {
	kv clientv3.KV
	by string
}

// next is the first number that has not been given.
func (b *book) next(ctx context.Context) (int, error) {
	return retry.Value(ctx, forever, func(ctx context.Context) (int, error) {
		resp, err := b.kv.Get(ctx, LastKey)
		if err != nil {
			return 0, err
		}
		if len(resp.Kvs) == 0 {
			return 1, nil
		}
		last, err := strconv.Atoi(string(resp.Kvs[0].Value))
		return last + 1, err
	})
}

// write is what enters the order of a number.
func (b *book) write(number, discount int, g fence.Guard) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpPut(BookKey(number), encode(Order{Number: number, By: b.by, Discount: discount, Token: int64(g.Token)})),
		clientv3.OpPut(LastKey, strconv.Itoa(number)),
	}
}

// enter gives an order the next number. ctx is the holder's: it ends when the lock is lost. It returns
// [fence.ErrLost] if the lock was lost before the write.
func (b *book) enter(ctx context.Context, discount int, g fence.Guard) error {
	number, err := b.next(ctx)
	if err != nil {
		return err
	}
	return retry.Do(ctx, forever, func(ctx context.Context) error {
		// The guard keeps the writes of former holders out. The condition is for our own attempts: one whose reply was
		// lost has been applied perhaps, or still will be, and the number is entered once all the same.
		_, err := g.KV(b.kv).Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(BookKey(number)), "=", 0)).
			Then(b.write(number, discount, g)...).
			Commit()
		return err
	})
}

// encode is v as JSON.
func encode(v any) string {
	value, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(value)
}
