package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// record is a job as its key holds it: a line of JSON that is as short as can be, and the item behind it as its codec wrote it. A
// dead letter is one, too.
type record struct {
	ID       string    `json:"id,omitempty"`    // if it is not the place's stem: the producer's own, or that of where the job stood first
	Key      string    `json:"key,omitempty"`   // ordering key
	Attempts int       `json:"n,omitempty"`     // that have ended
	Err      string    `json:"err,omitempty"`   // of the last one
	Pushed   time.Time `json:"at,omitzero"`     // if it is not the place's clock
	Trace    string    `json:"trace,omitempty"` // traceparent of the producer
	Place    string    `json:"place,omitempty"` // of a dead letter: where it stood
	Died     time.Time `json:"died,omitzero"`   // of a dead letter
	Item     []byte    `json:"-"`
}

// errRecord is told of a job that nobody of ours has written.
var errRecord = errors.New("not a job: the line before the item is missing or malformed")

// longestHeader bounds what is parsed of a value that anybody may have written.
const longestHeader = 8 << 10

// encode writes the record.
func (r record) encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(r) // ends the line; strings, numbers and times cannot fail
	if b.Len() == len("{}\n") {
		b.Reset()
		b.WriteByte('\n')
	}
	b.Write(r.Item)
	return b.Bytes()
}

// decodeRecord reads a value.
func decodeRecord(value []byte) (record, error) {
	var r record
	head, item, ok := bytes.Cut(value, []byte{'\n'})
	if !ok || len(head) > longestHeader {
		return r, errRecord
	}
	if len(head) > 0 {
		if err := json.Unmarshal(head, &r); err != nil {
			return record{}, errRecord
		}
	}
	r.Item = item
	return r, nil
}
