package follow

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
)

// tally is a context that counts how often client/v3 opens the stream of the watches that are opened with it. The client connects anew
// without a word; but each time gRPC asks the context of the first of these watches for the metadata to be sent, before anything is.
//
// It counts too much: the opening of a watch asks, too.
type tally struct {
	context.Context
	n atomic.Int64
}

// opened is how often the stream has been opened so far, at the most.
func (t *tally) opened() int64 { return t.n.Load() }

// Value is the context's.
func (t *tally) Value(key any) any {
	if key == outgoing {
		t.n.Add(1)
	}
	return t.Context.Value(key)
}

// outgoing is the key of the metadata to be sent, which gRPC keeps to itself.
var outgoing = func() any {
	e := &eavesdropper{Context: context.Background()}
	metadata.FromOutgoingContext(e)
	return e.asked
}()

// eavesdropper is a context that remembers what it was asked for last.
type eavesdropper struct {
	context.Context
	asked any
}

func (e *eavesdropper) Value(key any) any {
	e.asked = key
	return nil
}
