package queue

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lastClock is the last reading that a place has room for.
const lastClock = 1<<(4*clockDigits) - 1

// producer numbers the jobs of one Queue value. Its clock tells the time in microseconds, but never the same twice and never
// less than before: so the order of IDs is that of their making. It is safe for concurrent use.
type producer struct {
	id    string // 8 characters, random
	mu    sync.Mutex
	last  int64  // guarded by mu: the last reading of the clock that was given out
	alien uint64 // guarded by mu: how many stems were made for clocks that are not readings of it
}

func newProducer() *producer {
	var b [5]byte
	_, _ = rand.Read(b[:]) // it ends the program rather than fail
	return &producer{id: strings.ToLower(base32.HexEncoding.EncodeToString(b[:]))}
}

// take gives out n consecutive readings, the first of which it returns.
func (p *producer) take(n int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := max(time.Now().UnixMicro(), p.last+1)
	p.last = first + int64(n) - 1
	return first
}

// stem is the stem of a place at a reading of the clock that take gave out.
func (p *producer) stem(clock int64) string { return stemOf(clock, p.id) }

// stemDue is the stem of a place at another time, as that of a delayed job. The clock will come to that reading by itself, and two
// delays may end in the same microsecond: without a number of its own such a job would have the key of another one, and a
// push that finds its key written takes it for its own.
func (p *producer) stemDue(clock int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alien++
	return stemOf(clock, p.id+strconv.FormatUint(p.alien, 16))
}
