package queue

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"
	"sync"
	"time"
)

// producer numbers the jobs of one Queue value. Its clock tells the time in microseconds, but never the same twice and never
// less than before: so the order of IDs is that of their making. It is safe for concurrent use.
type producer struct {
	id   string // 8 characters, random
	mu   sync.Mutex
	last int64 // guarded by mu: the last reading of the clock that was given out

	delayed int64 // guarded by mu: how many stems were made for later
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

// later is a stem for a job that is not due before a time. Others may be due in the same microsecond, so that it has a number, too.
func (p *producer) later(due time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delayed++
	return stemOf(due.UnixMicro(), p.id+strconv.FormatInt(p.delayed, 32))
}
