package orders

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Kind is what an Event is about.
type Kind string

// What a process tells, and which fields of the Event it sets.
const (
	Registered Kind = "registered" // Addr, Revision: it can be discovered
	Peers      Kind = "peers"      // IDs: it discovers these, itself included
	Greeted    Kind = "greeted"    // By: that peer has called its address
	Priced     Kind = "priced"     // Discount, Revision: it sells at this from now on
	Refused    Kind = "refused"    // Discount, Revision: those it stays with; Reason: what is wrong with the newest
	Leading    Kind = "leading"    // Token
	Led        Kind = "led"        // Token: the term is over
	Holding    Kind = "holding"    // Token: it keeps the lock, as it was asked to
	Released   Kind = "released"   // Token, Orders: it has given the lock back; Reason: why not
	Stalled    Kind = "stalled"    // Token, Number: it is about to write this order
	Late       Kind = "late"       // Token, Number, Lost, Told, Revision, Reason: what became of that write
	Stopped    Kind = "stopped"    // it has given back whatever it had
)

// Event is something a process tells about itself.
type Event struct {
	Kind     Kind     `json:"event"`
	Addr     string   `json:"addr,omitempty"`
	IDs      []string `json:"ids,omitempty"`
	By       string   `json:"by,omitempty"`
	Discount int      `json:"discount,omitempty"`
	Token    int64    `json:"token,omitempty"`
	Number   int      `json:"number,omitempty"`
	Orders   int      `json:"orders,omitempty"`
	Revision int64    `json:"revision,omitempty"`

	// Lost says that a write was refused because the lock was lost, and Told that the lock's context had said so
	// before.
	Lost   bool   `json:"lost,omitempty"`
	Told   bool   `json:"told,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// teller writes events, a line each. It is safe for concurrent use.
type teller struct {
	mu  sync.Mutex // orders what is written
	out io.Writer
}

func (t *teller) tell(e Event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Nobody hears a process whose output is gone, and its work does not depend on being heard.
	fmt.Fprintf(t.out, "%s\n", line)
}
