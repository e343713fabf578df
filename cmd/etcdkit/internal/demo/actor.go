package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/orders"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

// actor is a process of the service, as seen from here.
type actor struct {
	id   string
	proc *etcdproc.Process
	log  *os.File

	leaving atomic.Bool   // its end is wanted
	heard   chan struct{} // closed when all that it said is on record
}

// enter starts a process of the service. Its end is put on record as a failure unless it is one that was wanted.
func enter(id string, observed bool, endpoints []string, dir string, r *record) (*actor, error) {
	log, err := os.Create(filepath.Join(dir, "service-"+id+".log"))
	if err != nil {
		return nil, err
	}
	args := []string{id}
	if observed {
		args = append(args, orders.Observed)
	}
	proc, err := etcdproc.Spawn(etcdproc.Command{Child: orders.Child, Args: append(args, endpoints...), Stderr: log})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	a := &actor{id: id, proc: proc, log: log, heard: make(chan struct{})}
	go a.listen(r)
	return a, nil
}

// listen puts on record what the process says, until it ends.
func (a *actor) listen(r *record) {
	defer close(a.heard)
	for {
		line, err := a.proc.Line(context.Background())
		if err != nil {
			break // io.EOF
		}
		s := said{id: a.id, at: time.Now()}
		if err := json.Unmarshal([]byte(line), &s.Event); err != nil {
			r.fail(fmt.Errorf("%s said what is no event: %q", a.id, line))
			continue
		}
		r.hear(s)
	}
	<-a.proc.Done()
	if !a.leaving.Load() {
		why := a.proc.Err()
		if why == nil {
			why = errors.New("exit code 0")
		}
		r.fail(fmt.Errorf("service %s has ended by itself: %w", a.id, why))
	}
}

// kill ends the process with SIGKILL.
func (a *actor) kill() error {
	a.leaving.Store(true)
	return a.proc.Kill()
}

// ask asks the process to stop, with SIGTERM.
func (a *actor) ask() error {
	a.leaving.Store(true)
	return a.proc.Terminate()
}

// close kills the process if it still runs, and gives back what belongs to it.
func (a *actor) close() error {
	err := a.kill()
	<-a.heard
	return errors.Join(err, a.log.Close())
}
