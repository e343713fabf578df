package demo

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
)

// start is when everything in these tests begins.
var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// at is a moment of the made-up past.
func at(d time.Duration) time.Time { return start.Add(d) }

// fake makes up a history as etcd would have it.
type fake struct {
	history
	now     time.Duration // when the next write is seen
	alive   map[string]int
	created map[string]int64
}

func newFake() *fake {
	return &fake{alive: map[string]int{}, created: map[string]int64{}}
}

// put writes keys and values, all at one new revision, and returns it.
func (f *fake) put(pairs ...string) int64 {
	revision := max(f.revision(), 1) + 1
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i]
		if f.alive[key] == 0 {
			f.created[key] = revision
		}
		f.alive[key]++
		f.history = append(f.history, write{
			at: at(f.now), revision: revision, key: key, value: pairs[i+1],
			created: f.created[key], version: int64(f.alive[key]), lease: 7,
		})
	}
	return revision
}

// del deletes a key, at a new revision, and returns it.
func (f *fake) del(key string) int64 {
	revision := f.revision() + 1
	f.alive[key] = 0
	f.history = append(f.history, write{at: at(f.now), revision: revision, key: key, deleted: true})
	return revision
}

// order writes an order into the book.
func (f *fake) order(number int, by string, discount int, token int64) int64 {
	value, _ := json.Marshal(orders.Order{Number: number, By: by, Discount: discount, Token: token})
	return f.put(orders.BookKey(number), string(value), orders.LastKey, strconv.Itoa(number))
}

// report writes the leader's report.
func (f *fake) report(by string, token int64) int64 {
	value, _ := json.Marshal(orders.Report{By: by, Token: token})
	return f.put(orders.ReportKey, string(value))
}

// refuses fails the test unless a check refuses the evidence for a reason that has the given words.
func refuses(t *testing.T, name string, check func() (string, error), words string) {
	t.Helper()
	seen, err := check()
	if err == nil {
		t.Errorf("%s: passed, seen %q", name, seen)
	} else if !strings.Contains(err.Error(), words) {
		t.Errorf("%s: refused because %v; want %q", name, err, words)
	}
}

// holds fails the test unless a check holds, and says what it has seen in the given words.
func holds(t *testing.T, check func() (string, error), words string) {
	t.Helper()
	seen, err := check()
	if err != nil {
		t.Errorf("refused: %v", err)
	} else if seen != words {
		t.Errorf("seen %q, want %q", seen, words)
	}
}

// told is an event that somebody told.
func told(id string, when time.Duration, e orders.Event) said {
	return said{Event: e, id: id, at: at(when)}
}
