package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	_ "modernc.org/sqlite"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// How a SQL database refuses the writes of owners of the past: it keeps the highest token that has written, and each write compares
// and raises it in its own transaction. What is one row keeps the token in that row (settings). Where a write is several rows, the
// lock has a row of its own (fences).
//
// No owner's token is below 2, as etcd begins with revision 1. So the token 0, which is nobody's, is refused too.
const schema = `
	CREATE TABLE settings (name TEXT PRIMARY KEY, value  TEXT   NOT NULL, token BIGINT NOT NULL DEFAULT 1);
	CREATE TABLE fences   (name TEXT PRIMARY KEY, token  BIGINT NOT NULL DEFAULT 1);
	CREATE TABLE accounts (name TEXT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount >= 0));
	CREATE TABLE journal  (n INTEGER PRIMARY KEY, token  BIGINT NOT NULL);
	INSERT INTO settings (name, value) VALUES ('limit', '');
	INSERT INTO fences   (name) VALUES ('ledger');
	INSERT INTO accounts VALUES ('ann', 1000000), ('bob', 0);`

// set writes one row: the condition is part of the UPDATE, which is a transaction by itself.
//
// To read the token, compare it in Go and then write is no check. The old owner reads 41, its own token, and is frozen; the new one
// writes with 57; the old one wakes up, and writes.
func set(ctx context.Context, db *sql.DB, name, value string, token fence.Token) error {
	return admitted(db.ExecContext(ctx, `UPDATE settings SET value = ?, token = ? WHERE name = ? AND token <= ?`, value, token, name, token))
}

// fenced runs a write of any number of rows, in one transaction, if no owner with a larger token has written.
//
// The UPDATE locks the lock's row until the end of the transaction: one under another token waits for that, and compares then. (Where
// the isolation is stricter than READ COMMITTED it may fail with a serialization error instead, and is to be repeated.)
//
// The database learns of a new owner with its first write. So what the write depends on is to be read in here too, after the UPDATE:
// what was read before may have been changed by the old owner since. A transaction that writes nothing else shuts that one out.
//
// The holders of two locks have different tokens that are valid side by side: so each lock has its own row. Readers of one lock, or
// holders of its permits, have different tokens too: they cannot be fenced in this way.
func fenced(ctx context.Context, db *sql.DB, lock string, token fence.Token, write func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	err = admitted(tx.ExecContext(ctx, `UPDATE fences SET token = ? WHERE name = ? AND token <= ?`, token, lock, token))
	if err != nil {
		return err
	}
	if err := write(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// admitted returns ErrLost if the UPDATE has found no row in which the token was small enough.
//
// MySQL counts rows that have changed, and an owner may write the same twice: there set clientFoundRows in the DSN.
func admitted(updated sql.Result, err error) error {
	if err != nil {
		return err
	}
	switch rows, err := updated.RowsAffected(); {
	case err != nil:
		return err
	case rows == 0:
		return fmt.Errorf("%w: an owner with a larger token has written, or there is no such row", fence.ErrLost)
	}
	return nil
}

func TestADatabaseRefusesAnOwnerOfThePast(t *testing.T) {
	t.Parallel()
	ctx, db, name := t.Context(), open(t), etcdtest.Prefix(t)+"limit"
	old, frozen := own(t, etcdtest.Client(t), name)
	if err := set(ctx, db, "limit", "10", frozen.Token); err != nil {
		t.Errorf("the first owner's write: %v", err)
	}
	etcdtest.Shared(t).Revoke(old.Lease()) // as if it had been frozen for longer than its lease
	_, next := own(t, etcdtest.Client(t), name)
	for _, value := range []string{"20", "21", "21"} { // any number of writes, under one token
		if err := set(ctx, db, "limit", value, next.Token); err != nil {
			t.Errorf("the new owner writes %s: %v", value, err)
		}
	}
	for what, token := range map[string]fence.Token{"the old owner, which is late,": frozen.Token, "nobody": 0} {
		if err := set(ctx, db, "limit", "11", token); !errors.Is(err, fence.ErrLost) {
			t.Errorf("%s writes: %v, want ErrLost", what, err)
		}
	}
	if v := get1[string](t, db, `SELECT value FROM settings`); v != "21" {
		t.Errorf("the value is %s, want 21", v)
	}
}

// Owners come one after the other. None of them knows that it is over: all go on writing, and each write is of several rows.
func TestADatabaseSeesItsOwnersOneAfterTheOther(t *testing.T) {
	t.Parallel()
	ctx, db, name := t.Context(), open(t), etcdtest.Prefix(t)+"ledger"
	pay := func(token fence.Token, amount int) error {
		return fenced(ctx, db, "ledger", token, func(tx *sql.Tx) error {
			_, noted := tx.ExecContext(ctx, `INSERT INTO journal (token) VALUES (?)`, token)
			_, taken := tx.ExecContext(ctx, `UPDATE accounts SET amount = amount - ? WHERE name = 'ann'`, amount)
			_, given := tx.ExecContext(ctx, `UPDATE accounts SET amount = amount + ? WHERE name = 'bob'`, amount)
			return errors.Join(noted, taken, given) // an error takes all of them back
		})
	}
	var (
		all    sync.WaitGroup
		over   atomic.Bool
		tokens []fence.Token
	)
	for range 5 {
		s, g := own(t, etcdtest.Client(t), name)
		tokens = append(tokens, g.Token)
		for range 3 {
			if err := pay(g.Token, 1); err != nil {
				t.Errorf("the owner, whose token is %d, writes: %v", g.Token, err)
			}
		}
		etcdtest.Shared(t).Revoke(s.Lease())
		all.Go(func() {
			for !over.Load() {
				if err := pay(g.Token, 1); err != nil && !errors.Is(err, fence.ErrLost) {
					t.Error(err)
				}
			}
		})
	}
	over.Store(true)
	all.Wait()
	last := len(tokens) - 1
	for i, token := range tokens {
		if err := pay(token, 1); (err == nil) != (i == last) || i < last && !errors.Is(err, fence.ErrLost) {
			t.Errorf("at the end owner %d of %d writes: %v", i, last, err)
		}
	}
	if err := pay(tokens[last], 1_000_000); err == nil || errors.Is(err, fence.ErrLost) {
		t.Errorf("a payment of more than there is: %v, want the database's error", err)
	}
	if n := get1[int](t, db, `SELECT count(*) FROM (SELECT token < lag(token) OVER (ORDER BY n) AS back FROM journal) WHERE back`); n > 0 {
		t.Errorf("%d times an owner has written after one of a larger token", n)
	}
	written, paid := get1[int](t, db, `SELECT count(*) FROM journal`), get1[int](t, db, `SELECT amount FROM accounts WHERE name = 'bob'`)
	if written != paid || written < 3*len(tokens) {
		t.Errorf("%d writes have paid %d", written, paid)
	}
}

// fence.Watermark is the same condition for a store in memory: its Admit is the UPDATE. What is the transaction here is there the
// store's own mutex, held over Admit and the write.
func TestADatabaseAndAWatermarkGiveTheSameAnswers(t *testing.T) {
	t.Parallel()
	db := open(t)
	var memory fence.Watermark
	for _, token := range []fence.Token{0, 41, 41, 57, 41, 57, -1, 58, 57, 1 << 62, 58} {
		want, got := memory.Admit(token), set(t.Context(), db, "limit", "", token)
		if (got == nil) != (want == nil) {
			t.Errorf("token %d: the database says %v, the watermark %v", token, got, want)
		}
	}
}

// open makes a database in a file, to which several connections may write at a time.
func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.db")+"?_pragma=busy_timeout(30000)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(2) // who waits for a connection comes first; who waits for SQLite's lock may be passed for long
	if _, err := db.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return db
}

// own locks a name through a session of its own.
func own(t *testing.T, cli *clientv3.Client, name string) (*session.Session, fence.Guard) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := session.Open(ctx, cli, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	held, err := lock.NewMutex(s, name).Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, held.Guard()
}

// get1 returns the one value that a query has.
func get1[T any](t *testing.T, db *sql.DB, query string) (value T) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
