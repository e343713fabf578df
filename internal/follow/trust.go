package follow

import "slices"

// trust is which answers about progress are believed on a stream of several watches.
//
// client/v3 connects anew without a word, opens the watches one after the other, and sends the questions that it is given meanwhile in
// between:
//
//	client  open a ── question ── open b ──►            b goes on at a revision before the answer's
//	etcd                        answers, as a has all   b is not among those that it looks at
//	etcd    ◄── a is open ── b is open ── the answer    sent in any order: they are of two channels
//
// The client gives that answer to b as well, ahead of what b has yet to bring. So when the stream was opened again no answer is believed on
// a watch to anything that was asked before (it may have been sent in between), nor the first one after these. That one says that the
// watch is open; and what was asked before it came may have been sent in between, too. What is asked after it has come is answered only when the
// watch has all.
type trust struct {
	opened   func() int64 // how often the stream was opened, at the most
	expected func() int   // how many answers may yet come
	seen     int64        // of opened
	doubts   []doubted    // by watch
}

// doubted are the answers on a watch that are not believed.
type doubted struct {
	next int  // so many
	more bool // and then those to all that was asked until the last of them came
}

func newTrust(watches int) trust {
	return trust{
		opened: func() int64 { return 0 }, expected: func() int { return 0 }, doubts: make([]doubted, watches),
	}
}

// follow has the openings of the stream be minded, from a number of them on.
func (t *trust) follow(seen int64, opened func() int64, expected func() int) {
	t.seen, t.opened, t.expected = seen, opened, expected
}

// look notes whether the stream was opened again. It comes before every question, and before all that the stream brings is taken in: what
// it brings since was sent after that was counted.
func (t *trust) look() {
	n := t.opened()
	if n == t.seen {
		return
	}
	t.seen = n
	for w := range t.doubts {
		t.doubts[w] = doubted{t.expected() + 1, true}
	}
}

// doubting reports whether there is a watch on which the next answer is not believed.
func (t *trust) doubting() bool {
	return slices.ContainsFunc(t.doubts, func(d doubted) bool { return d.next > 0 })
}

// believe reports whether an answer on a watch is to be believed.
func (t *trust) believe(watch int) bool {
	d := &t.doubts[watch]
	if d.next == 0 {
		return true
	}
	if d.next--; d.next == 0 && d.more {
		*d = doubted{next: t.expected()}
	}
	return false
}
