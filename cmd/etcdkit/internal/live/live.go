// Package live shows what there is below a prefix in etcd, and goes on showing it as it changes.
package live

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/internal/follow"
)

const (
	// calm is the shortest time from one picture on a terminal to the next.
	calm = 100 * time.Millisecond

	// again is how often a picture is drawn anew in which nothing has changed but times: etcd tells nobody of the renewals of leases.
	again = 2 * time.Second
)

// State is all keys below a prefix, as of one revision.
type State struct {
	Keys     []*follow.Entry // by their names
	Revision int64
	Cut      error // why it may be old, or nil
}

// Follow calls show with what is below a prefix, and again with each newer state until ctx ends: if show is slow, with the newest only.
// It returns nil when Ctrl-C has ended it. Every, if positive, is how often show is called without a change.
func Follow(ctx context.Context, client *clientv3.Client, prefix string, every time.Duration, show func(State) error) error {
	o := &observer{keys: map[string]*follow.Entry{}, live: make(chan struct{}), news: make(chan struct{}, 1)}
	f := follow.Attach(client, follow.Prefix(prefix), o)
	defer f.Close()
	if err := f.Open(ctx, o.live, nil); err != nil {
		return err
	}
	var tick <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-o.news:
		case <-tick:
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), exit.ErrInterrupted) {
				return nil
			}
			return context.Cause(ctx)
		}
		if err := show(o.state()); err != nil {
			if ctx.Err() != nil {
				continue
			}
			return err
		}
	}
}

// observer holds what a view tells.
type observer struct {
	live chan struct{} // closed when the view is live for the first time
	news chan struct{} // holds a token when there is something that was not shown

	mu       sync.Mutex
	keys     map[string]*follow.Entry // guarded by mu, as are all below
	revision int64
	cut      error
	opened   bool
}

func (o *observer) state() State {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := State{Keys: slices.Collect(maps.Values(o.keys)), Revision: o.revision, Cut: o.cut}
	slices.SortFunc(s.Keys, func(a, b *follow.Entry) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return s
}

// Changed takes in a step.
func (o *observer) Changed(c follow.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ev := range c.Events {
		if ev.New == nil {
			delete(o.keys, ev.Key)
		} else {
			o.keys[ev.Key] = ev.New
		}
	}
	o.revision = c.Revision
	if !o.opened {
		o.opened = true
		close(o.live)
	}
	if len(c.Events) > 0 || c.Initial {
		o.tell()
	}
}

// Stale notes that the view is cut off.
func (o *observer) Stale(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known := o.cut != nil; o.opened && !known {
		o.cut = err
		o.tell()
	}
}

// Live notes that it is not any more.
func (o *observer) Live() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cut != nil {
		o.cut = nil
		o.tell()
	}
}

// tell says that there is something to show. The caller holds mu.
func (o *observer) tell() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// Picture is what is shown of a state on a terminal: a line above a table.
type Picture struct {
	Title  string
	Header []string
	Rows   [][]string
	Whole  []string // headers of columns that are not cut off
	Notes  []string // lines below it
}

// Show is Follow for people before a terminal: the picture that draw makes of each state is shown in the place of the one before. What draw asks etcd for is bounded by its context.
func Show(ctx context.Context, u *cli.Use, prefix string, draw func(context.Context, State) (Picture, error)) error {
	block := &screen.Block{Screen: u.Out}
	var (
		last  time.Time
		shown Picture
	)
	return Follow(ctx, u.Client(), prefix, again, func(s State) error {
		if wait := calm - time.Since(last); !last.IsZero() && wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		last = time.Now()
		within, cancel := context.WithTimeout(ctx, again) // what is older than that is told to be
		p, err := draw(within, s)
		cancel()
		cut := s.Cut
		switch {
		case err == nil:
			shown = p
		case shown.Title == "" || ctx.Err() != nil:
			return err
		default: // etcd was asked for more, and did not answer: what was known stays
			cut = err
		}
		block.Show(shown.lines(u.Out, cut))
		return u.Out.Err()
	})
}

// lines lays a picture out for a terminal.
func (p Picture) lines(s *screen.Screen, cut error) []screen.Line {
	columns, _ := s.Size()
	title := screen.Line{Style: screen.Plain, Text: cli.Visible(p.Title)}
	if cut != nil {
		title = screen.Line{Style: screen.Red, Text: cli.Visible(p.Title + "  (cut off from etcd: " + cli.Plainly(cut.Error()) + ")")}
	}
	lines := []screen.Line{title}
	if len(p.Rows) > 0 {
		for i, text := range cli.Columns(columns-1, p.Header, p.Rows, p.Whole...) {
			style := screen.Plain
			if i == 0 {
				style = screen.Bold
			}
			lines = append(lines, screen.Line{Style: style, Text: text})
		}
	}
	for _, n := range p.Notes {
		lines = append(lines, screen.Line{Style: screen.Dim, Text: cli.Visible(n)})
	}
	return lines
}
