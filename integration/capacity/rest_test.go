package capacity_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/queue"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

const (
	// ttl is that of all sessions here, many is how many there are of a thing, and rest is how long they are watched.
	ttl  = 3 * time.Second
	many = 6
	rest = 3 * time.Second

	// settled is after how long what has begun is at rest, and soon how long it may take to begin.
	settled = time.Second
	soon    = 10 * time.Second

	addr = "10.0.0.7:8080"
)

var options = &session.Options{TTL: ttl}

// place is where things are made: an etcd of their own, and a client whose calls are counted.
type place struct {
	t       *testing.T
	ctx     context.Context // until the end of the test
	cluster *etcdtest.Cluster
	cli     *clientv3.Client
	oracle  *clientv3.Client
	calls   *etcdtest.Calls
	running sync.WaitGroup
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, cluster: etcdtest.New(t, nil), calls: &etcdtest.Calls{}}
	p.cli, p.oracle = p.cluster.Dial(clientv3.Config{DialOptions: p.calls.DialOptions()}), p.cluster.Client()
	var end func()
	p.ctx, end = context.WithCancel(context.Background())
	t.Cleanup(func() { end(); p.running.Wait() })
	return p
}

// must fails the test if something did not succeed.
func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// session opens one through a client.
func (p *place) session(cli *clientv3.Client) *session.Session {
	p.t.Helper()
	s, err := session.Open(p.ctx, cli, options)
	p.must(err)
	p.t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// unary is how many calls there were that are no messages of streams.
func (p *place) unary() (n int) {
	for name, count := range p.calls.Counts() {
		switch name {
		case "Range", "RangeStream", "Txn", "Put", "DeleteRange", "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive":
			n += count
		}
	}
	return n
}

// granted is how many leases the cluster has.
func (p *place) granted() int {
	p.t.Helper()
	resp, err := p.oracle.Leases(p.ctx)
	p.must(err)
	return len(resp.Leases)
}

// stored is how many keys the cluster has, and how long they and their values are.
func (p *place) stored() (n, bytes int) {
	p.t.Helper()
	resp, err := p.oracle.Get(p.ctx, "", clientv3.WithPrefix())
	p.must(err)
	for _, kv := range resp.Kvs {
		bytes += len(kv.Key) + len(kv.Value)
	}
	return len(resp.Kvs), bytes
}

// begin is how a row's things are made: once prepared, what it returns makes the next one. names is how long the names, addresses and
// labels of one are, and beside what a client needs once for all of them, of the rows of the page.
type begin struct {
	make   func(p *place) func(i int)
	names  int
	beside []string
}

// who is what a process says of itself.
func who() int {
	host, _ := os.Hostname()
	return len(filepath.Base(os.Args[0])) + len(host) + len(fmt.Sprint(os.Getpid()))
}

// begins are the things of the page.
var begins = map[string]begin{
	"session": {make: func(p *place) func(int) { return func(int) { p.session(p.cli) } }},
	"registration": {
		make: func(p *place) func(int) {
			return func(i int) {
				reg, err := registry.Register(p.ctx, p.cli, registry.Instance{Service: "mail", ID: fmt.Sprint(i), Addr: addr}, &registry.Options{Session: options})
				p.must(err)
				p.t.Cleanup(func() { _ = reg.Close(context.Background()) })
			}
		},
		names: len("services/mail/0" + addr), beside: []string{"session", "client that follows anything"},
	},
	"service that is viewed": {make: func(p *place) func(int) { return func(i int) { p.view(fmt.Sprint("mail", i)) } }, beside: follows},
	"another view of it": {
		make:   func(p *place) func(int) { p.view("mail"); return func(int) { p.view("mail") } },
		beside: []string{"service that is viewed", "client that follows anything"},
	},
	"lock that is held": {
		make: func(p *place) func(int) {
			s := p.session(p.cli)
			return func(i int) {
				_, err := lock.NewMutex(s, fmt.Sprint("locks/", i)).Lock(p.ctx)
				p.must(err)
			}
		},
		names: len("locks/0") + who(), beside: owns,
	},
	"place in a lock's line": {
		make: func(p *place) func(int) {
			other := p.session(p.oracle)
			for i := range many {
				_, err := lock.NewMutex(other, fmt.Sprint("locks/", i)).Lock(p.ctx)
				p.must(err)
			}
			s := p.session(p.cli)
			return func(i int) {
				p.running.Go(func() { _, _ = lock.NewMutex(s, fmt.Sprint("locks/", i)).Lock(p.ctx) })
			}
		},
		names: len("locks/0") + who(), beside: owns,
	},
	"term that leads": {
		make: func(p *place) func(int) {
			s := p.session(p.cli)
			return func(i int) {
				_, err := election.Campaign(p.ctx, s, fmt.Sprint("elections/", i), addr)
				p.must(err)
			}
		},
		names: len("elections/0" + addr), beside: owns,
	},
	"election that is observed": {
		make: func(p *place) func(int) {
			return func(i int) {
				p.running.Go(func() {
					for _, err := range election.Observe(p.ctx, p.cli, fmt.Sprint("elections/", i)) {
						_ = err // nobody leads, and nobody is cut off
					}
				})
			}
		},
		beside: follows,
	},
	"configuration value": {make: func(p *place) func(int) { return func(i int) { p.value(i, config.Identity{}) } }, beside: follows},
	"value that reports, beside it": {
		make:  func(p *place) func(int) { return func(i int) { p.value(i, config.Identity{ID: "a", TTL: ttl}) } },
		names: len("config/0" + "a"), beside: append(strings.Split(strings.Repeat("configuration value,", many), ",")[:many:many], follows...),
	},
	"configuration map": {
		make: func(p *place) func(int) {
			return func(i int) {
				m, err := config.OpenMap[int](p.ctx, p.cli, fmt.Sprint("maps/", i), nil)
				p.must(err)
				p.t.Cleanup(m.Close)
			}
		},
		beside: follows,
	},
	"worker": {
		make: func(p *place) func(int) {
			return func(i int) {
				p.running.Go(func() {
					_ = queue.New[int](p.cli, fmt.Sprint("mail", i), nil).Work(p.ctx, &queue.WorkOptions{Session: options}, func(context.Context, *queue.Delivery[int]) error { return nil })
				})
			}
		},
		names: len("mail0") + who() - len(filepath.Base(os.Args[0])), beside: follows,
	},
}

var (
	follows = []string{"client that follows anything"}
	owns    = []string{"session", "client that follows anything"}
)

func (p *place) view(service string) {
	p.t.Helper()
	v, err := registry.Watch(p.ctx, p.cli, service, nil)
	p.must(err)
	p.t.Cleanup(v.Close)
}

func (p *place) value(i int, id config.Identity) {
	p.t.Helper()
	v, err := config.Open(p.ctx, p.cli, fmt.Sprint("config/", i), &config.Options[int]{Default: new(int), Identity: id})
	p.must(err)
	p.t.Cleanup(v.Close)
}

// sample is many of a row's things, and what the page says of them and of what is beside them.
type sample struct {
	*place
	row                  row
	leases, keys, bytes  int
	watches, calls       int
	messages             float64 // a second
	keysBefore, byBefore int
	counts               map[string]int // when it was at rest
}

// newSample makes them.
func newSample(t *testing.T, r row) *sample {
	t.Helper()
	how, known := begins[r[0]]
	if !known {
		t.Fatalf("nobody knows how to make one: %q", r)
	}
	s := &sample{place: newPlace(t), row: r}
	next := how.make(s.place)
	s.keysBefore, s.byBefore = s.stored()
	if s.keysBefore > 0 { // those who hold what is waited for
		s.leases++
	}
	for i := range many {
		next(i)
	}
	add := func(of row, n int) {
		s.leases += n * int(of.value(t, 1, 1))
		s.watches += n * int(of.value(t, 4, 1))
		s.calls += n * int(of.value(t, 5, 1))
		s.messages += float64(n) * of.value(t, 6, ttl.Seconds())
	}
	add(r, many)
	for _, name := range how.beside {
		add(named(t, thePage(t).rest, name), 1)
	}
	if s.keys = many * int(r.value(t, 2, 1)); s.keys > 0 {
		s.bytes = many * (int(r.value(t, 3, 1)) + how.names)
	}
	return s
}

// begun compares what was made with the page.
func (s *sample) begun() {
	s.t.Helper()
	if got := s.granted(); got != s.leases {
		s.t.Errorf("%s: %d leases, and by the page %d", s.row[0], got, s.leases)
	}
	keys, bytes := s.stored()
	keys, bytes = keys-s.keysBefore, bytes-s.byBefore
	if keys != s.keys || bytes > s.bytes || bytes*4 < s.bytes*3 {
		s.t.Errorf("%s: %d keys with %d bytes, and by the page %d with %d", s.row[0], keys, bytes, s.keys, s.bytes)
	}
	s.counts = s.place.calls.Counts()
	if got := s.counts[etcdtest.WatchCreate] - s.counts[etcdtest.WatchCancel]; got != s.watches {
		s.t.Errorf("%s: %d watches, and by the page %d", s.row[0], got, s.watches)
	}
	if got := s.unary(); got > s.calls || got < s.calls-2 { // one or two are needless at times
		s.t.Errorf("%s: %d calls to begin, and by the page at most %d: %v", s.row[0], got, s.calls, s.counts)
	}
}

// rested compares what was sent since with the page.
func (s *sample) rested(during time.Duration) {
	s.t.Helper()
	sent, want := 0, s.messages*during.Seconds()
	for name, n := range s.place.calls.Counts() {
		switch n -= s.counts[name]; {
		case name == etcdtest.KeepAliveSend, name == etcdtest.WatchProgress:
			sent += n
		case name == "LeaseKeepAlive", strings.HasSuffix(name, ".response"): // answers, and the streams of what was sent
		case n > 0:
			s.t.Errorf("%s: %d times %s at rest", s.row[0], n, name)
		}
	}
	if got := float64(sent); got < 0.8*want-1 || got > 1.2*want+2 {
		s.t.Errorf("%s: %g messages in %v, and by the page %g", s.row[0], got, during, want)
	}
}

func TestWhatThingsCostAtRest(t *testing.T) {
	t.Parallel()
	var all []*sample
	for _, r := range thePage(t).rest {
		if r[0] != follows[0] { // which is beside most others
			all = append(all, newSample(t, r))
		}
	}
	for _, s := range all {
		s.place.calls.WaitCount(t, soon, etcdtest.WatchCreate, s.watches)
	}
	etcdtest.Nothing(t, settled, "settling", (<-chan struct{})(nil))
	for _, s := range all {
		s.begun()
	}
	began := time.Now()
	etcdtest.Nothing(t, rest, "resting", (<-chan struct{})(nil))
	for _, s := range all {
		s.rested(time.Since(began))
	}
}
