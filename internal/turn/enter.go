package turn

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/session"
)

var (
	// ErrTaken says that a place in the line would have to wait.
	ErrTaken = errors.New("turn: taken")

	// ErrSize says that somebody shares the line by another size. Only locks share.
	ErrSize = errors.New("lock: in use with another size")
)

// tries is how often Try looks at a line that changes under its eyes before it enters to see.
const tries = 3

// Join enters the line. ctx bounds it, and the session's end does. On an error nothing stays in line. It fails with
// ErrSize if somebody shares the line by another size.
func Join(ctx context.Context, sess *session.Session, prefix string, share Share, value string) (*Place, error) {
	for agreed := share.agreed(prefix); ; agreed = nil {
		p := newPlace(sess, prefix, share)
		absent := clientv3.Compare(clientv3.CreateRevision(p.key), "=", 0)
		in, err := p.enter(ctx, append(agreed, absent), value)
		switch {
		case err != nil:
			return nil, err
		case in && (agreed != nil || share.alone()):
			return p, nil
		}
		line, _, err := p.read(ctx)
		if err == nil {
			err = share.disputed(line)
		}
		switch {
		case in && err != nil:
			return nil, errors.Join(err, p.Leave(ctx))
		case err != nil:
			return nil, err
		case in:
			return p, nil
		}
		// Who was in the way has gone; or it was the keys of a line further below, which etcd cannot tell from those of this
		// one. Then the place enters first, and looks after.
	}
}

// Try takes a place in the line if it owns at once, or returns ErrTaken and leaves nothing behind.
func Try(ctx context.Context, sess *session.Session, prefix string, share Share, value string) (*Place, error) {
	p := newPlace(sess, prefix, share)
	if in, err := p.enter(ctx, append(share.agreed(prefix), p.unlessAfter(0)), value); in || err != nil {
		return p.owning(err)
	}
	if share.alone() && len(p.older) > 0 {
		return nil, ErrTaken
	}
	for range tries {
		p = newPlace(sess, prefix, share)
		line, revision, err := p.read(ctx)
		if err == nil {
			err = share.disputed(line)
		}
		if err == nil && !share.fits(line) {
			err = ErrTaken
		}
		if err != nil {
			p.free()
			return nil, err
		}
		if in, err := p.enter(ctx, append(share.agreed(prefix), p.unlessAfter(revision)), value); in || err != nil {
			return p.owning(err)
		}
	}
	// Keys come and go, here or further below: enter, and look.
	p, err := Join(ctx, sess, prefix, share, value)
	if err != nil || p.first {
		return p, err
	}
	line, _, err := p.read(ctx)
	if err == nil && !p.owns(line) {
		err = ErrTaken
	}
	if err != nil {
		return nil, errors.Join(err, p.Leave(ctx))
	}
	return p.owning(nil)
}

// owning returns a place that owns, or the error of entering.
func (p *Place) owning(err error) (*Place, error) {
	if err != nil {
		return nil, err
	}
	p.first = true
	return p, nil
}

// enter puts the key if cmps hold, and reports whether it is there: it is, too, if the reply to an attempt before was lost.
// Otherwise the key can be used again.
func (p *Place) enter(ctx context.Context, cmps []clientv3.Cmp, value string) (in bool, err error) {
	resp, err := p.create(ctx, cmps, value)
	if err != nil {
		return false, err
	}
	in = p.entered(resp)
	if !in {
		p.done()
	}
	return in, nil
}

// unlessAfter is the condition that nobody in the place's way came after a revision. Of a range, a comparison asks that
// every key meets it; one without a key meets it too.
func (p *Place) unlessAfter(revision int64) clientv3.Cmp {
	from, to := p.share.inTheWay(p.prefix)
	return clientv3.Compare(clientv3.CreateRevision(from), "<", revision+1).WithRange(to)
}

// read reads the line, the oldest first.
func (p *Place) read(ctx context.Context) (line []member, revision int64, err error) {
	both, cancel := join(ctx, p.sess.Context())
	defer cancel()
	resp, err := call.Persist(both, p.sess.Client(), func(ctx context.Context) (*clientv3.GetResponse, error) {
		return p.sess.Client().KV.Get(ctx, p.prefix, byAge(clientv3.WithKeysOnly())...)
	})
	if err != nil {
		return nil, 0, p.explain(ctx, err)
	}
	for _, kv := range inLine(p.prefix, resp.Kvs) {
		line = append(line, newMember(p.prefix, kv))
	}
	return line, resp.Header.GetRevision(), nil
}

// owns reports whether the place owns in the line, which it has entered.
func (p *Place) owns(line []member) bool {
	var f filling
	for _, m := range line {
		if owns := f.add(m.share); m.key == p.key {
			return owns && m.token == p.token
		}
	}
	return false
}

// fits reports whether a place with the share would own if it came last into the line.
func (s Share) fits(line []member) bool {
	var f filling
	for _, m := range line {
		f.add(m.share)
	}
	return f.add(s)
}

// disputed returns ErrSize if somebody in the line shares it by another size.
func (s Share) disputed(line []member) error {
	for _, m := range line {
		if !s.alone() && !m.share.alone() && m.share.Size != s.Size {
			return fmt.Errorf("%w: %q is %v", ErrSize, m.key, m.share)
		}
	}
	return nil
}
