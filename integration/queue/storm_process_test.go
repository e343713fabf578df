package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/internal/boottime"
	"github.com/etcdkit/etcdkit/retry"
)

// stormChild is a worker of a storm that is a process of its own, which can be killed and frozen. Whatever it notes it tells its parent
// before it does anything else, a line each:
//
//	note JSON   a delivery, as it stands now
//	settled N   so many more jobs are done with
//	over TEXT   Work has returned, with this error if any
const stormChild = "storm-worker"

func init() { etcdproc.Child(stormChild, stormWork) }

// stormWork is the child. Its arguments are the endpoints, its number, and when the history began. It works until there is a line on stdin.
func stormWork() {
	index, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	began, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		panic(err)
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(os.Args[1], ","), Logger: zap.NewNop(), DialOptions: retry.DialOptions(retry.Policy{}),
	})
	if err != nil {
		panic(err)
	}
	var speech sync.Mutex
	say := func(what string, more ...any) {
		line := fmt.Appendln(nil, append([]any{what}, more...)...)
		speech.Lock()
		defer speech.Unlock()
		if _, err := os.Stdout.Write(line); err != nil { // in one piece, and the kernel has it
			panic(err)
		}
	}
	record := newModelRecorder()
	record.began = boottime.Instant(began)
	record.changed = func(n int, d *modelDelivery) {
		note, err := json.Marshal(stormNoted(n, d))
		if err != nil {
			panic(err)
		}
		say("note", string(note))
	}
	w := &stormWorker{index: index, queue: stormQueue(cli), record: record, settled: func(n int64) { say("settled", n) }}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // its end is as good
		cancel()
	}()
	if err := w.work(ctx); err != nil {
		say("over", err)
		return
	}
	say("over")
}

// stormNote is a delivery on its way to the parent.
type stormNote struct {
	Number, Tag, Worker, Attempt int
	ID, Key                      string
	Token                        int64
	From, Until, Settled         modelInstant
	End                          modelEnd
	Outcome                      modelOutcome
	Said                         string
}

func stormNoted(number int, d *modelDelivery) stormNote {
	n := stormNote{
		Number: number, Tag: d.tag, Worker: d.worker, Attempt: d.attempt, ID: d.id, Key: d.key, Token: d.token,
		From: d.from, Until: d.until, Settled: d.settled, End: d.end, Outcome: d.outcome,
	}
	if d.said != nil {
		n.Said = d.said.Error()
	}
	return n
}

func (n stormNote) delivery() modelDelivery {
	d := modelDelivery{
		tag: n.Tag, worker: n.Worker, attempt: n.Attempt, id: n.ID, key: n.Key, token: n.Token,
		from: n.From, until: n.Until, settled: n.Settled, end: n.End, outcome: n.Outcome,
	}
	if n.Said != "" {
		d.said = errors.New(n.Said)
	}
	return d
}

// stormProcess is a worker that is a process, and the next one after each that was killed. The test's goroutine alone uses it.
type stormProcess struct {
	storm *storm
	links etcdtest.Links
	index int // of the present one
	proc  *etcdproc.Process
	heard chan struct{} // closed when all that it said was taken in
	thaws time.Time     // when it is to be woken; zero if it is awake
}

// start starts one, under a number of its own.
func (p *stormProcess) start() {
	s := p.storm
	s.t.Helper()
	p.index = s.numbers
	s.numbers++
	proc, err := etcdproc.Spawn(etcdproc.Command{Child: stormChild, Args: []string{
		strings.Join(p.links.Endpoints(), ","), strconv.Itoa(p.index), strconv.FormatInt(int64(s.record.began), 10),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = proc.Close() }) // most are over
	p.proc, p.heard = proc, make(chan struct{})
	go p.listen(proc, p.heard)
}

// listen takes in what a process says, to its end.
func (p *stormProcess) listen(proc *etcdproc.Process, heard chan<- struct{}) {
	defer close(heard)
	s, noted := p.storm, map[int]*modelDelivery{}
	for {
		line, err := proc.Line(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		what, rest, _ := strings.Cut(line, " ")
		switch what {
		case "note":
			var n stormNote
			if err := json.Unmarshal([]byte(rest), &n); err != nil {
				s.t.Errorf("worker process: %q: %v", line, err)
				continue
			}
			noted[n.Number] = s.record.take(noted[n.Number], n.delivery())
		case "settled":
			n, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				s.t.Errorf("worker process: %q: %v", line, err)
			}
			s.settled.Add(n)
		case "over":
			if rest != "" {
				s.t.Errorf("worker process: %s", rest)
			}
		default:
			s.t.Errorf("worker process: %q", line)
		}
	}
}

// kill ends the process in the midst of whatever it does, and starts the next one.
func (p *stormProcess) kill() {
	p.storm.t.Helper()
	if err := p.proc.Kill(); err != nil {
		p.storm.t.Fatal(err)
	}
	<-p.heard
	p.storm.record.died(p.index)
	p.thaws = time.Time{}
	p.start()
}

// freeze stops the process for a while, unless it is stopped already.
func (p *stormProcess) freeze(lasts time.Duration) {
	p.storm.t.Helper()
	if !p.thaws.IsZero() {
		return
	}
	if err := p.proc.Freeze(); err != nil {
		p.storm.t.Fatal(err)
	}
	p.storm.record.froze(p.index)
	p.thaws = time.Now().Add(lasts)
}

// thaw wakes the process if it is time.
func (p *stormProcess) thaw(now time.Time) {
	p.storm.t.Helper()
	if p.thaws.IsZero() || now.Before(p.thaws) {
		return
	}
	p.thaws = time.Time{}
	if err := p.proc.Thaw(); err != nil {
		p.storm.t.Fatal(err)
	}
	p.storm.record.thawed(p.index)
}

// stop has the process end in peace.
func (p *stormProcess) stop() {
	p.storm.t.Helper()
	if err := p.proc.Say("stop"); err != nil {
		p.storm.t.Error(err)
	}
	etcdtest.Done(p.storm.t, stormSettled, "the end of a worker process", p.heard)
	if err := p.proc.Err(); err != nil {
		p.storm.t.Error(err)
	}
}
