package batch

import "slices"

// room is the memory that operations without a fate may take. Who finds too little stands in line: first come, first
// served, so that small operations do not pass a large one for ever. The Writer's mutex guards it.
type room struct {
	free int
	line []*guest
}

// guest is one who waits for room.
type guest struct {
	need int
	let  chan struct{} // closed once the room is the guest's
}

// take takes n bytes and returns nil, or returns whom to wait as. It takes no more than there is in all.
func (r *room) take(n int) *guest {
	if len(r.line) == 0 && n <= r.free {
		r.free -= n
		return nil
	}
	g := &guest{need: n, let: make(chan struct{})}
	r.line = append(r.line, g)
	return g
}

// give gives n bytes back, to whoever stands in line first.
func (r *room) give(n int) {
	r.free += n
	for len(r.line) > 0 && r.line[0].need <= r.free {
		g := r.line[0]
		r.line = slices.Delete(r.line, 0, 1)
		r.free -= g.need
		close(g.let)
	}
}

// leave gives up waiting. The room may have been let just now, while the guest had already turned away: then it goes to
// the next.
func (r *room) leave(g *guest) {
	at := slices.Index(r.line, g)
	if at < 0 {
		r.give(g.need)
		return
	}
	r.line = slices.Delete(r.line, at, at+1)
	r.give(0) // the next may need less
}
