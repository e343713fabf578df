package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/queue"
)

// faultDead reads a queue's dead letters, by ID.
func faultDead(t *testing.T, w *faultWorld, n int) map[string]string {
	t.Helper()
	dead := map[string]string{}
	for _, kv := range etcdtest.WaitKeys(t, faultSoon, w.c.Client(), w.root+"dead/", n).Kvs {
		dead[string(kv.Key[len(w.root+"dead/"):])] = string(kv.Value)
	}
	return dead
}

// F18: what cannot be a job of ours becomes a dead letter, with the reason and all of its bytes, and holds up nothing. What is
// no place in line at all is left alone.
func TestPoisonGoesToTheDeadLettersAndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	cli := w.c.Client()
	deep := strings.Repeat("[", 10_000)
	poison := map[string]struct{ value, item string }{
		"0000000000001-bad": {"\n{not JSON", "{not JSON"},
		"0000000000002-bad": {"\n" + deep, deep},
		"0000000000003-bad": {"no header", "no header"},
		"0000000000004-bad": {"", ""},
		"0000000000005-bad": {"{\"n\":\n1", "{\"n\":\n1"},
		"0000000000006-bad": {"\n\xff\x00", "\xff\x00"},
		"0000000000007-bad": {strings.Repeat("x", 20_000) + "\n1", strings.Repeat("x", 20_000) + "\n1"},
	}
	for stem, p := range poison {
		if _, err := cli.Put(t.Context(), w.root+"line/jobs/100/"+stem, p.value); err != nil {
			t.Fatal(err)
		}
	}
	foreign := []string{
		"line/jobs/stranger", "line/jobs/100/", "line/jobs/100/stranger", "line/jobs/000/0000000000001-a", "line/jobs/100/0000000000001-a/b",
		"line/jobs/1000/0000000000001-a", "line/jobs/100/000000000000g-a", "line/claims/stranger", "line/workers/", "line/else",
	}
	for _, key := range foreign {
		if _, err := cli.Put(t.Context(), w.root+key, "not ours"); err != nil {
			t.Fatal(err)
		}
	}
	w.push(w.queue(cli), 5)
	w.work(cli, 2, faultTTL, w.done)
	w.delivered(5)
	for id, value := range faultDead(t, w, len(poison)) {
		header, item, _ := strings.Cut(value, "\n")
		var h struct{ Err, Place string }
		if err := json.Unmarshal([]byte(header), &h); err != nil || h.Err == "" || h.Place != "100/"+id {
			t.Errorf("%s: the header %q says no reason, or no place (%v)", id, header, err)
		}
		if want := poison[id].item; item != want {
			t.Errorf("%s: the dead letter's item is %q, want %q", id, item, want)
		}
	}
	w.push(w.queue(cli), 5)
	w.delivered(10)
	for _, key := range foreign {
		if resp, err := cli.Get(t.Context(), w.root+key); err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "not ours" {
			t.Errorf("%s: %v, %v", key, resp, err)
		}
		if _, err := cli.Delete(t.Context(), w.root+key); err != nil {
			t.Fatal(err)
		}
	}
	w.empty()
}

// A handler that fails each time, and one that panics, end at the dead letters after as many attempts as there are to be, with what
// they failed with; one that fails for good at once.
func TestWhatAlwaysFailsEndsAtTheDeadLetters(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t, 1)
	cli := w.c.Client()
	w.push(w.queue(cli), 3)
	w.work(cli, 3, faultTTL, func(_ context.Context, d *queue.Delivery[stormItem], r *modelDelivery) error {
		w.record.gives(r, modelBack)
		switch d.Item.N {
		case 1:
			return fmt.Errorf("failed %d times", d.Attempt)
		case 2:
			panic(fmt.Sprintf("panicked %d times", d.Attempt))
		default:
			return errors.Join(errStorm, errStormForGood)
		}
	})
	reasons := map[int]string{1: "failed 5 times", 2: "panicked 5 times", 3: "for good"}
	attempts := map[int]int{1: 5, 2: 5, 3: 1}
	for id, value := range faultDead(t, w, 3) {
		tag := modelTag([]byte(value))
		var h struct {
			N   int
			Err string
		}
		header, _, _ := strings.Cut(value, "\n")
		if err := json.Unmarshal([]byte(header), &h); err != nil || h.N != attempts[tag] || !strings.Contains(h.Err, reasons[tag]) {
			t.Errorf("%s: %q, want %d attempts and %q (%v)", id, header, attempts[tag], reasons[tag], err)
		}
	}
	w.empty()
	w.judge()
}
