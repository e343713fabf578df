package queue

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 30, 0, 125_000_000, time.UTC)
	for name, r := range map[string]record{
		"nothing":      {Item: []byte{}},
		"an item":      {Item: []byte("item")},
		"lines":        {ID: "a", Item: []byte("\n{}\n\n")},
		"not text":     {Item: []byte{0, 0xff, '\n'}},
		"all":          {ID: "a/b", Key: "<&\">", Attempts: 3, Err: "boom\nagain", Pushed: at, Trace: "00-1-2-01", Place: "100/x", Died: at, Item: []byte("x")},
		"like headers": {Item: []byte(`{"id":"x"}`)},
	} {
		got, err := decodeRecord(r.encode())
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, r)
		}
	}
}

func TestARecordOfNothingButItsItemHasAnEmptyHeader(t *testing.T) {
	if got := string(record{Item: []byte("item")}.encode()); got != "\nitem" {
		t.Errorf("%q", got)
	}
}

func TestWhatIsNoRecordIsRefused(t *testing.T) {
	for _, bad := range []string{
		"", "item", "{}", "x\nitem", "[]\nitem", `{"n":"x"}` + "\n", `{"id":1}` + "\n", "{} {}\nitem",
		`{"id":"` + strings.Repeat("x", longestHeader) + "\"}\nitem",
	} {
		if r, err := decodeRecord([]byte(bad)); err == nil {
			t.Errorf("%.40q is %+v", bad, r)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("\nitem"))
	f.Add(record{ID: "a", Key: "k", Attempts: 1, Err: "e", Pushed: time.Unix(1, 0), Item: []byte("x")}.encode())
	f.Add([]byte(`{"n":-1}` + "\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord(value)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(value, r.Item) {
			t.Errorf("%q has an item that is not its end: %q", value, r.Item)
		}
		again, err := decodeRecord(r.encode())
		if err != nil {
			t.Skip("what was written by others may be longer when we write it")
		}
		if !bytes.Equal(again.Item, r.Item) || again.ID != r.ID || again.Attempts != r.Attempts {
			t.Errorf("%q is %+v, then %+v", value, r, again)
		}
	})
}
