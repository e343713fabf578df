package config

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestAnEntryOfTheHistoryIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 30, 0, 125e6, time.UTC)
	for _, v := range []Version{
		{Number: 1, Kind: Published, Author: "ada", Reason: "two\nlines <&>\u2028", Time: at, Value: []byte("\x00\n\xff\n")},
		{Number: 2, Kind: Published, Time: at, Value: []byte{}},
		{Number: 3, Kind: Deleted, Time: at},
		{Number: 4, Kind: RolledBack, Of: 1, Time: at, Value: []byte("x")},
		{Number: 5, Kind: RolledBack, Of: 3, Time: at},
		{Number: 6, Kind: RolledOut, Rollout: "r", Time: at, Value: []byte("y")},
		{Number: 7, Kind: TakenBack, Rollout: "r", Time: at, Value: []byte("y")},
		{Number: 8, Kind: Outside, Missed: 3, Time: at, Value: []byte("z")},
		{Number: 9, Kind: Outside, Time: at},
		{Number: maxVersion, Kind: Outside, Omitted: true, Time: at},
	} {
		v.Key, v.Revision = "k", 42
		text, err := encodeVersion(v, "id")
		if err != nil {
			t.Fatal(err)
		}
		at := int64(42)
		if v.Kind == Outside {
			at = 50 // entered later
		}
		got, id := decodeVersion("k", v.Number, &mvccpb.KeyValue{Value: []byte(text), ModRevision: at})
		if !reflect.DeepEqual(got, v) || id != "id" {
			t.Errorf("%+v was written, %+v of %q is read", v, got, id)
		}
	}
}

func TestAnEntryThatCannotBeReadIsSaidToBeMalformed(t *testing.T) {
	for _, text := range []string{
		"", "value", "{}\nvalue", `{"version":1}` + "\n", `{"version":2,"id":"x","kind":"published"}` + "\n", `{"version":1,"id":"x","kind":"malformed"}` + "\n",
		`{"version":1,"id":"x","kind":"published"}`, `{"version":"1"}` + "\n", "\xff\n",
	} {
		v, id := decodeVersion("k", 1, &mvccpb.KeyValue{Value: []byte(text), ModRevision: 7})
		if !reflect.DeepEqual(v, Version{Key: "k", Number: 1, Revision: 7, Kind: Malformed}) || id != "" || v.Gone() {
			t.Errorf("%q is read as %+v", text, v)
		}
	}
}

func TestAHeadThatCannotBeIsRefused(t *testing.T) {
	good := `{"version":3,"oldest":1,"current":2,"writes":1,"revision":7,"created":5}`
	if h, err := decodeHead("k", []byte(good)); err != nil || h != (head{3, 1, 2, 1, 7, 5}) {
		t.Errorf("%+v, %v", h, err)
	}
	for _, c := range []string{
		"", "[]", "{}", `{"version":0,"oldest":0}`, `{"version":1,"oldest":2}`, `{"version":1,"oldest":0}`, `{"version":1,"oldest":1,"current":2}`,
		`{"version":9007199254740993,"oldest":1}`, `{"version":1,"oldest":1,"writes":-1}`, `{"version":1.5,"oldest":1}`,
	} {
		_, err := decodeHead("/a/k", []byte(c))
		if !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), "etcdkit/config//a/k//head") {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func TestWhatWasMissedIsCountedByWhatEtcdCounts(t *testing.T) {
	for _, c := range []struct {
		what        string
		known, seen mark
		missed      int64
	}{
		{"a key that nobody knew, put once", mark{}, mark{1, 5, 5}, 0},
		{"a key that nobody knew, put thrice", mark{}, mark{3, 7, 5}, 2},
		{"put once", mark{1, 5, 5}, mark{2, 6, 5}, 0},
		{"put four times", mark{1, 5, 5}, mark{5, 9, 5}, 3},
		{"deleted", mark{1, 5, 5}, mark{}, 0},
		{"deleted and put", mark{4, 5, 5}, mark{1, 7, 7}, 1},
		{"deleted and put twice", mark{1, 5, 5}, mark{2, 8, 7}, 2},
		{"a restored backup", mark{4, 9, 5}, mark{2, 6, 5}, 0},
	} {
		if got := missed(c.known, c.seen); got != c.missed {
			t.Errorf("%s: %d missed, want %d", c.what, got, c.missed)
		}
	}
}

func TestAHeadKnowsTheKeyItWasWrittenWith(t *testing.T) {
	for _, c := range []struct {
		head head
		want mark
	}{
		{head{}, mark{}},
		{head{Writes: 1}, mark{1, 9, 9}},
		{head{Writes: 3, Created: 4}, mark{3, 9, 4}},
		{head{Writes: 3, Revision: 6, Created: 4}, mark{3, 6, 4}},
	} {
		if got := c.head.known(9); got != c.want {
			t.Errorf("%+v, written at 9, knows %+v, want %+v", c.head, got, c.want)
		}
	}
}

// What is kept is Keep versions, but in any case that of what the key holds.
func TestRetentionDeletesWhatIsOlderThanKeep(t *testing.T) {
	for _, c := range []struct {
		keep                     int64
		version, oldest, current int64 // before
		kind                     VersionKind
		wantOldest               int64
	}{
		{3, 0, 0, 0, Published, 1},
		{3, 2, 1, 2, Published, 1},
		{3, 3, 1, 3, Published, 2},
		{3, 10, 1, 10, Published, 9}, // Keep was lowered
		{3, 10, 9, 10, Published, 9},
		{1, 10, 10, 10, Published, 11},
		{1, 10, 10, 10, TakenBack, 10},
		{2, 12, 10, 10, TakenBack, 10},
		{-1, 10, 1, 10, Published, 1},
	} {
		w := writing{keep: c.keep, id: "x"}
		g := &ledger{head: head{Version: c.version, Oldest: c.oldest, Current: c.current}, headRevision: 5}
		v, err := w.add(draft{layout{"k"}, g, entry{version: Version{Kind: c.kind, Value: []byte("v")}, keep: c.kind == TakenBack}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeHead("k", w.ops[0].ValueBytes())
		if err != nil || h.Oldest != c.wantOldest || h.Version != c.version+1 || v.Number != h.Version {
			t.Errorf("%+v: the head is %+v, %v", c, h, err)
		}
		deleted := ""
		for _, op := range w.ops {
			if op.IsDelete() {
				deleted = string(op.RangeBytes())
			}
		}
		want := ""
		if c.wantOldest > max(1, c.oldest) {
			want = layout{"k"}.history(c.wantOldest)
		}
		if deleted != want {
			t.Errorf("%+v: deleted up to %q, want %q", c, deleted, want)
		}
	}
}

func TestTransactionsStayWithinEtcdsLimits(t *testing.T) {
	drafts := func(n, size int) (ds []draft) {
		for range n {
			ds = append(ds, draft{layout{strings.Repeat("k", MaxKey)}, &ledger{}, entry{version: Version{
				Value: make([]byte, size), Author: strings.Repeat("a", MaxAuthor), Reason: strings.Repeat("\x01", MaxReason),
			}}})
		}
		return ds
	}
	for _, c := range []struct{ n, size int }{{1, MaxPublished}, {100, MaxPublished}, {100, 0}, {100, 10 << 10}, {100, 100 << 10}} {
		ds := drafts(c.n, c.size)
		n := fitting(ds)
		if n < 1 || n > perTxn {
			t.Fatalf("%+v: %d", c, n)
		}
		w := writing{keep: 1}
		bytes := 0
		for _, d := range ds[:n] {
			d.ledger.head = head{Version: 5, Oldest: 1}
			if _, err := w.add(d); err != nil {
				t.Fatal(err)
			}
			w.cmps = append(w.cmps, clientv3.Compare(clientv3.ModRevision(d.layout.key), "=", 0))
		}
		for _, cmp := range w.cmps {
			bytes += len(cmp.KeyBytes()) + 32
		}
		for _, op := range w.ops {
			bytes += len(op.KeyBytes()) + len(op.RangeBytes()) + len(op.ValueBytes()) + 32
		}
		if len(w.cmps) > 128 || len(w.ops) > 128 || bytes > 1536<<10 {
			t.Errorf("%+v: %d keys make %d comparisons, %d operations, %d bytes", c, n, len(w.cmps), len(w.ops), bytes)
		}
	}
}

// The client is nil: what is refused here is refused before anything is sent.
func TestWhatBreaksARuleIsRefusedBeforeAnythingIsSent(t *testing.T) {
	s, err := NewStore(nil, &StoreOptions{Environment: "/config/prod", Validate: func(_ string, value []byte) error {
		if string(value) == "panic" {
			panic("secret")
		}
		if string(value) == "bad" {
			return errors.New("the rule")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", MaxReason+1)
	for _, c := range []struct {
		key, value string
		o          PublishOptions
		is         error
		says       string
	}{
		{"/config/prod2/a", "", PublishOptions{}, ErrOutside, `"/config/prod2/a" is not below "/config/prod"`},
		{"/config/prod", "", PublishOptions{}, ErrOutside, ""},
		{"config/prod/a", "", PublishOptions{}, ErrOutside, ""},
		{"/config/prod/../dev/a", "", PublishOptions{}, nil, `".."`},
		{"/config/prod//a", "", PublishOptions{}, nil, "empty segment"},
		{"", "", PublishOptions{}, nil, "empty"},
		{"etcdkit/config/a", "", PublishOptions{}, nil, "histories of other keys"},
		{"/etcdkit/config", "", PublishOptions{}, nil, "histories of other keys"},
		{"/config/prod/" + long, "", PublishOptions{}, nil, "at most 512"},
		{"/config/prod/a", strings.Repeat("x", MaxPublished+1), PublishOptions{}, ErrTooLarge, "716801 bytes, at most 716800"},
		{"/config/prod/a", "bad", PublishOptions{}, ErrInvalid, "the rule"},
		{"/config/prod/a", "panic", PublishOptions{}, ErrInvalid, "Validate panicked"},
		{"/config/prod/a", "", PublishOptions{Author: long}, nil, "author refused: it has 1025 bytes, at most 256"},
		{"/config/prod/a", "", PublishOptions{Author: "a\nb"}, nil, "author refused"},
		{"/config/prod/a", "", PublishOptions{Reason: long}, nil, "reason refused: it has 1025 bytes, at most 1024"},
		{"/config/prod/a", "", PublishOptions{Reason: "\xff"}, nil, "reason refused"},
		{"/config/prod/a", "", PublishOptions{Expect: -2}, errExpect, ""},
	} {
		_, err := s.Publish(context.Background(), c.key, []byte(c.value), c.o)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40q: %v", c.key, err)
		}
	}
	if _, err := s.Publish(context.Background(), "/config/prod/a", nil, PublishOptions{}); !errors.Is(err, errNil) {
		t.Errorf("a nil value: %v", err)
	}
	for _, prefix := range []string{"/config/dev", "/config", "config/prod", "/config/prod2", "/config/prod/", "etcdkit", "etcdkit/config/a"} {
		if _, err := s.At(context.Background(), prefix, 0); err == nil {
			t.Errorf("prefix %q passed", prefix)
		}
	}
	free, err := NewStore(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "etcdkit", "etcdkit/config", "etcdkit/config/a", "a/", "a//b"} {
		if _, err := free.Keys(context.Background(), prefix); err == nil {
			t.Errorf("prefix %q passed", prefix)
		}
	}
	for _, environment := range []string{"/config/prod/", "a//b", "etcdkit/config", "/"} {
		if _, err := NewStore(nil, &StoreOptions{Environment: environment}); err == nil || !strings.Contains(err.Error(), "Environment") {
			t.Errorf("environment %q: %v", environment, err)
		}
	}
}

func TestCheckRefusesWhatAValueWould(t *testing.T) {
	check := Check(&Options[int]{Validate: func(n int) error {
		if n < 1024 {
			return errors.New("must be at least 1024")
		}
		return nil
	}})
	for document, says := range map[string]string{"8080": "", "80": "at least 1024", "eighty": "codec: decode int"} {
		if err := check("port", []byte(document)); fmt.Sprint(err) != "<nil>" && says == "" || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v, want %q", document, err, says)
		}
	}
	if err := Check[map[string]any](nil)("k", []byte("{")); err == nil {
		t.Error("a document that does not decode passed")
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(`{"version":3,"oldest":1,"current":2,"writes":1,"revision":7,"created":5}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		h, err := decodeHead("k", value)
		if err != nil {
			return
		}
		if k := h.known(9); (k == mark{}) != (h.Writes == 0) {
			t.Errorf("%+v knows %+v", h, k)
		}
		w := writing{keep: 3}
		if _, err := w.add(draft{layout{"k"}, &ledger{head: h}, entry{version: Version{Kind: Published, Value: []byte{}}}}); err != nil {
			return
		}
		if next, err := decodeHead("k", w.ops[0].ValueBytes()); err != nil || next.Version != h.Version+1 {
			t.Errorf("after %+v comes %+v, %v", h, next, err)
		}
	})
}

func FuzzVersion(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"x","kind":"published","time":"2026-11-21T09:30:00.125Z"}` + "\nvalue"))
	f.Add([]byte(`{"version":1,"id":"x","kind":"outside","missed":-1,"omitted":true}` + "\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		v, _ := decodeVersion("k", 1, &mvccpb.KeyValue{Value: value, ModRevision: 7})
		if v.Number != 1 || v.Missed < 0 || v.Revision < 1 || v.Kind == Malformed && v.Value != nil {
			t.Errorf("%q is read as %+v", value, v)
		}
	})
}
