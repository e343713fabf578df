package turn

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/session"
)

// linger is how long the view of a line stays open after its last use. A watch that stays open hands the next
// turn over at once; opening one costs two round trips first.
const linger = 5 * time.Second

// lineID tells lines apart: the same name through two clients may be two different users'.
type lineID struct {
	client *clientv3.Client
	prefix string
}

// lines are the views of lines that are open in this process.
var lines = struct {
	sync.Mutex
	open    map[lineID]*line // guarded by Mutex, as are every line's uses and idle
	waiters map[lineID]int   // guarded by Mutex: places that wait, or own after they have waited
}{open: map[lineID]*line{}, waiters: map[lineID]int{}}

// joinCrowd counts the place among those who wait in its line through the same client, until it stands up.
func (p *Place) joinCrowd() (waiters int) {
	id := p.id()
	lines.Lock()
	defer lines.Unlock()
	lines.waiters[id]++
	p.leaves = append(p.leaves, func() {
		lines.Lock()
		defer lines.Unlock()
		if lines.waiters[id]--; lines.waiters[id] == 0 {
			delete(lines.waiters, id)
		}
	})
	return lines.waiters[id]
}

// line is a synced view of one line, shared by the places in it that this process holds through one client.
type line struct {
	id       lineID
	follower *follow.Follower
	uses     int
	idle     func() // takes back the closing that is due; nil while in use

	mu         sync.Mutex // guards what is below
	order      []member   // by token
	tokens     map[string]int64
	revision   int64 // the line is known as it was then
	generation int64
	seats      map[string]*seat // places of this process, by key
	unseen     map[string]*seat // those of them whose keys have not been in the view yet
}

// member is one key in the line.
type member struct {
	key   string
	token int64
	share Share
}

func newMember(prefix string, kv *mvccpb.KeyValue) member {
	key := string(kv.Key)
	return member{key: key, token: kv.CreateRevision, share: ShareOf(prefix, key)}
}

// useLine returns the view of a line, opened if it was not.
func useLine(client *clientv3.Client, prefix string) *line {
	lines.Lock()
	id := lineID{client, prefix}
	l := lines.open[id]
	if l == nil {
		l = &line{id: id, tokens: map[string]int64{}, seats: map[string]*seat{}, unseen: map[string]*seat{}}
		lines.open[id] = l
		l.follower = follow.Attach(client, follow.Prefix(prefix).For(follow.Lock), l)
	}
	l.uses++
	if l.idle != nil {
		l.idle()
		l.idle = nil
	}
	lines.Unlock()
	return l
}

// leave ends one use. After the last the view lingers, but not past the session that used it: a closed session
// leaves nothing running. Nor does it if the line has become long: what it brings is too much for those who wait elsewhere.
func (l *line) leave(sess *session.Session) {
	lines.Lock()
	l.uses--
	if l.uses > 0 {
		lines.Unlock()
		return
	}
	timer := time.AfterFunc(linger, l.closeIfIdle)
	stop := context.AfterFunc(sess.Context(), l.closeIfIdle)
	l.idle = func() { timer.Stop(); stop() }
	lines.Unlock()
	if l.length() > shortLine {
		l.closeIfIdle()
	}
}

// length is how many places the line has, as far as is known.
func (l *line) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.order)
}

// closeIfIdle closes the view unless it has come into use again.
func (l *line) closeIfIdle() {
	lines.Lock()
	if l.uses > 0 || lines.open[l.id] != l {
		lines.Unlock()
		return
	}
	delete(lines.open, l.id)
	l.idle()
	lines.Unlock()
	l.follower.Close()
}

// sit registers a place and returns what it will learn.
func (l *line) sit(key string, token int64) *seat {
	s := newSeat(key, token)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seats[key] = s
	l.unseen[key] = s
	l.look(s)
	l.call()
	return s
}

// rise takes a place out again. Its key may be in use for the next one already.
func (l *line) rise(s *seat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seats[s.key] == s {
		delete(l.seats, s.key)
		delete(l.unseen, s.key)
	}
}

// Changed takes in a step of the view.
func (l *line) Changed(c follow.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range c.Events {
		if !InLine(l.id.prefix, ev.Key) {
			continue
		}
		l.drop(ev.Key)
		if ev.New != nil {
			l.insert(newMember(l.id.prefix, ev.New))
		}
	}
	l.revision = c.Revision
	replaced := c.Generation != l.generation && !c.Initial // a view that was there before may have seen worse
	l.generation = c.Generation
	if replaced {
		for _, s := range l.seats {
			s.end(errRestored)
		}
		return
	}
	for _, ev := range c.Events {
		if s := l.seats[ev.Key]; s != nil {
			l.look(s)
		}
	}
	for _, s := range l.unseen { // put, and gone again, while the view was cut off: no event tells
		l.look(s)
	}
	l.call()
}

// Stale does nothing: what is not known changes nobody's turn, and a session that cannot be renewed ends.
func (l *line) Stale(error) {}

// Live does nothing either: what was missed came with Changed.
func (l *line) Live() {}

// look compares a seat with the line. Its key was put at its own token's revision: from then on it is in the
// view, or it is gone.
func (l *line) look(s *seat) {
	_, unseen := l.unseen[s.key]
	switch {
	case l.tokens[s.key] == s.token:
		delete(l.unseen, s.key)
	case !unseen || l.revision >= s.token:
		s.end(errGone)
	}
}

// call tells the places whose turn it is, if they are of this process. The line is known at one revision here: those
// keys are there, and nothing else is older.
func (l *line) call() {
	var f filling
	for _, m := range l.order {
		if !f.add(m.share) {
			return
		}
		if s := l.seats[m.key]; s != nil && s.token == m.token {
			s.call()
		}
	}
}

// insert puts a key at its place in the order: at the end, but for a re-read.
func (l *line) insert(m member) {
	l.tokens[m.key] = m.token
	i := len(l.order)
	if i > 0 && l.order[i-1].token > m.token {
		i, _ = slices.BinarySearchFunc(l.order, m, byToken)
	}
	l.order = slices.Insert(l.order, i, m)
}

// drop takes a key out of the order, if it is there.
func (l *line) drop(key string) {
	token, there := l.tokens[key]
	if !there {
		return
	}
	delete(l.tokens, key)
	i, _ := slices.BinarySearchFunc(l.order, member{token: token}, byToken)
	for ; i < len(l.order) && l.order[i].token == token; i++ {
		if l.order[i].key == key { // keys put by one transaction share their revision
			l.order = slices.Delete(l.order, i, i+1)
			return
		}
	}
}

func byToken(a, b member) int {
	switch {
	case a.token < b.token:
		return -1
	case a.token > b.token:
		return 1
	}
	return 0
}

// waitInView waits for the turn in the view of the whole line.
func (p *Place) waitInView(ctx context.Context) error {
	l := useLine(p.sess.Client(), p.prefix)
	l.follower.Heard(p.token)
	p.seat = l.sit(p.key, p.token)
	p.leaves = append(p.leaves, func() {
		l.rise(p.seat)
		l.leave(p.sess)
	})
	return p.sit(ctx)
}
