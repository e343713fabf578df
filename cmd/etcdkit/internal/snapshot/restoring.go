package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// restoring is a process that restores a snapshot, see [restore].
type restoring struct{ p *etcdproc.Process }

// look is what there is to see in a database without restoring it.
type look struct{ Revision int64 }

// task is what such a process is told.
type task struct {
	File   string
	Listen string // where the member may listen; "" if it is only to look
}

// start starts a process in a directory.
func start(dir string, t task) (*restoring, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	p, err := etcdproc.Spawn(etcdproc.Command{Child: childName, Args: []string{string(text)}, Dir: dir})
	if err != nil {
		return nil, err
	}
	return &restoring{p}, nil
}

// startRestoring restores a file below a directory.
func startRestoring(ctx context.Context, dir, path string) (*restoring, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return start(dir, task{File: path, Listen: "here"})
}

// revisionOf is the newest revision in a snapshot.
func revisionOf(ctx context.Context, path string) (int64, error) {
	r, err := start("", task{File: path})
	if err != nil {
		return 0, err
	}
	defer r.close()
	l, err := r.look(ctx)
	return l.Revision, err
}

// close ends the process.
func (r *restoring) close() { _ = r.p.Close() } // what it has is thrown away

// look returns what the process has seen first.
func (r *restoring) look(ctx context.Context) (l look, err error) {
	err = r.answer(ctx, "look ", &l)
	return l, err
}

// restored returns what is restored, once a member runs on it.
func (r *restoring) restored(ctx context.Context) (*Verification, error) {
	v := &Verification{}
	return v, r.answer(ctx, "restored ", v)
}

// hash returns HashKV at a revision, with the history compacted up to another one.
func (r *restoring) hash(ctx context.Context, revision, compact int64) (hash uint32, err error) {
	if err := r.p.Say(fmt.Sprintf("%d %d", revision, compact)); err != nil {
		return 0, r.ended(ctx, err)
	}
	err = r.answer(ctx, "hash ", &hash)
	return hash, err
}

// answer reads one from the process.
func (r *restoring) answer(ctx context.Context, prefix string, to any) error {
	line, err := r.p.Line(ctx)
	if err != nil {
		return r.ended(ctx, err)
	}
	text, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return fmt.Errorf("%w: %s", ErrDamaged, strings.TrimPrefix(line, "failed "))
	}
	return json.Unmarshal([]byte(text), to)
}

// ended is the error of a process that does not answer.
func (r *restoring) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	err = r.p.Wait(ctx)
	exit, ok := errors.AsType[*etcdproc.ExitError](err)
	if !ok {
		return fmt.Errorf("%w: restoring it has ended: %w", ErrDamaged, err)
	}
	for line := range strings.Lines(exit.Stderr) { // what a page that is no page has caused
		if cause, ok := strings.CutPrefix(line, "panic: "); ok {
			return fmt.Errorf("%w: restoring it has failed: %s", ErrDamaged, strings.TrimSpace(cause))
		}
	}
	return fmt.Errorf("%w: restoring it has failed: %s", ErrDamaged, exit.Reason)
}
