package config_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func init() { etcdproc.Child("judge", judge) }

// measured is a codec that notes when it began, and what had been allocated then.
type measured struct {
	codec.Document[service]
	began    *atomic.Int64 // time, in ns since 1970
	alloc    *atomic.Uint64
	decoding *atomic.Int64
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func (m measured) Decode(data []byte) (service, error) {
	m.alloc.Store(allocated())
	m.began.Store(time.Now().UnixNano())
	m.decoding.Add(1)
	return m.Document.Decode(data)
}

// judge is a process that follows the key in its arguments, at the endpoint there. Of each document that it has looked at it says how
// long that took, in µs, what was allocated, in bytes, and how often it was decoded and logged so far.
func judge() {
	cli, err := clientv3.New(clientv3.Config{Endpoints: os.Args[2:], Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	m := measured{began: &atomic.Int64{}, alloc: &atomic.Uint64{}, decoding: &atomic.Int64{}}
	logged := 0
	core, _ := observer.New(zapcore.DebugLevel)
	log := zap.New(core, zap.Hooks(func(e zapcore.Entry) error { // in the Value's own goroutine
		if e.Message != "config taken" && e.Message != "config not taken" {
			return nil
		}
		took := time.Since(time.Unix(0, m.began.Load()))
		logged++
		fmt.Println(e.Message, took.Microseconds(), allocated()-m.alloc.Load(), m.decoding.Load(), logged)
		return nil
	}))
	v, err := config.Open(context.Background(), cli, os.Args[1], &config.Options[service]{Codec: m, Logger: log})
	if err != nil {
		panic(err)
	}
	defer v.Close()
	var word string
	_, _ = fmt.Scan(&word) // the end of the input
}

// hostile is documents that are meant to harm their reader.
func hostile() map[string]string {
	bomb := func(first, next, last string) string {
		var b strings.Builder
		b.WriteString(first)
		for i := 1; i < 10; i++ {
			b.WriteString(strings.NewReplacer("$", fmt.Sprint(i), "@", fmt.Sprint(i-1)).Replace(next))
		}
		return b.String() + last
	}
	ten := strings.Repeat("*a@, ", 9) + "*a@"
	long := strings.Repeat("x", 1<<20)
	return map[string]string{
		"alias bomb":           bomb("a0: &a0 [x]\n", "a$: &a$ ["+ten+"]\n", "peers: *a9"),
		"merge bomb":           bomb("a0: &a0 {x: 1}\n", "a$: &a$ {<<: ["+ten+"]}\n", "labels: *a9"),
		"alias of itself":      "peers: &a [*a]",
		"10,000 levels, JSON":  strings.Repeat(`{"labels":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		"10,000 levels, YAML":  "peers: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"10,000 levels, block": strings.Repeat("- ", 10_000),
		"a million levels":     strings.Repeat("[", 1<<20),
		"1 MiB of text":        long,
		"1 MiB of string":      `{"addr":"` + long + `"}`,
		"1 MiB of digits":      `{"limits":{"rate":` + strings.Repeat("9", 1<<20) + `}}`,
		"1 MiB of keys":        `{"labels":{` + keysOf(1<<20) + `"x":"y"}}`,
		"1 MiB of escapes":     `{"addr":"` + strings.Repeat(`\u0041`, 1<<20/6) + `"}`,
		"1 MiB of comments":    strings.Repeat("#a\n", 1<<20/3),
		"1 MiB of documents":   strings.Repeat("---\n", 1<<18),
		"NUL":                  "addr: \x00",
		"NUL in JSON":          "{\"addr\":\"\x00\"}",
		"invalid UTF-8":        "addr: \xff\xfe",
		"half a surrogate":     `{"addr":"\ud800"}`,
		"empty":                "",
		"cut off":              `{"addr":`,
	}
}

func keysOf(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size-32; i++ {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return b.String()
}

// F17, F18: hostile documents through etcd, to a process that does nothing else: each is looked at once and logged once, and costs at
// most 50 MiB, all that was ever allocated counted, and a tenth of a second on a quiet machine. The bounds are twice as much with the
// race detector, and loose for time, of which the best of four tries counts: what they guard against takes minutes.
func TestAHostileDocumentCostsItsReaderLittle(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	oracle := c.Oracle(0)
	const good = `{"addr":"good"}`
	put(t, oracle, "hostile", good)
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "judge", Args: []string{"hostile", c.Endpoint(0)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	maxMiB, maxTime := 50.0, 300*time.Millisecond
	if raceEnabled {
		maxMiB, maxTime = 100, 3*time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*soon)
	defer cancel()
	seen := 0
	judged := func() (mib float64, took time.Duration) {
		t.Helper()
		said, err := p.Expect(ctx, "config ")
		if err != nil {
			t.Fatal(err)
		}
		seen++
		var us, bytes int64
		var decoded, logged int
		if _, err := fmt.Sscan(strings.TrimPrefix(strings.TrimPrefix(said, "not "), "taken "), &us, &bytes, &decoded, &logged); err != nil {
			t.Fatalf("%q: %v", said, err)
		}
		if decoded != seen || logged != seen {
			t.Errorf("after %d documents %d were decoded, and %d logged", seen, decoded, logged)
		}
		return float64(bytes) / (1 << 20), time.Duration(us) * time.Microsecond
	}
	judged()
	for name, document := range hostile() {
		var mib float64
		took := time.Hour
		for range 4 {
			put(t, oracle, "hostile", document)
			m, d := judged()
			mib, took = max(mib, m), min(took, d)
		}
		t.Logf("%5.1f MiB %6.1f ms  %s", mib, float64(took.Microseconds())/1000, name)
		if mib > maxMiB || took > maxTime {
			t.Errorf("%s: %.1f MiB, %v", name, mib, took)
		}
	}
	put(t, oracle, "hostile", good)
	judged()
}

// F18: documents are made worse by chance, for ETCDKIT_CONFIG_SECONDS (2), and put. Each is either what the codec makes of it, or is
// refused at its revision, and the last good one stays; and of each there is one line in the log.
func TestDocumentsMadeWorseByChanceAreTakenOrRefusedOnce(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seeded(t), 0))
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"document"
	core, logs := observer.New(zapcore.InfoLevel)
	put(t, cli, key, `{"addr":"good"}`)
	v := open(t, cli, key, &config.Options[service]{Logger: zap.New(core)})
	last, at := v.Get(), v.Snapshot().Revision
	var corpus []string
	for _, document := range hostile() {
		if len(document) < 1<<17 {
			corpus = append(corpus, document)
		}
	}
	corpus = append(corpus, `{"addr":":8080","timeout":"30s","level":"warn","limits":{"rate":100},"peers":["a","b"]}`,
		"addr: :8080\ntimeout: 30s\nlevel: warn\nlimits:\n  rate: 100\npeers: [a, b]\n", "limits: &a {rate: 1}\nlabels: {<<: *a}")
	logs.TakeAll()
	taken, refused := 0, 0
	for end := time.Now().Add(lasts(t, 2*time.Second)); !t.Failed() && (time.Now().Before(end) || taken < 3 || refused < 10); {
		document := worse(rng, corpus)
		revision := put(t, cli, key, document)
		want, wrong := codec.Auto[service]().Decode([]byte(document))
		if wrong == nil {
			last, at = want, revision
			taken++
		} else {
			refused++
		}
		until(t, v, fmt.Sprintf("%.200q of revision %d is looked at", document, revision), func(err error) bool {
			return wrong == nil && err == nil && v.Snapshot().Revision == revision || wrong != nil && refusedAt(revision)(err)
		})
		if s := v.Snapshot(); !reflect.DeepEqual(s.Value, last) || s.Revision != at {
			t.Errorf("%q: the value is %+v of revision %d, want %+v of %d", document, s.Value, s.Revision, last, at)
		}
		if lines := logs.TakeAll(); len(lines) != 1 {
			t.Errorf("%q: logged %v", document, lines)
		}
	}
	t.Logf("%d documents taken, %d refused", taken, refused)
}

// worse is one or two documents, changed a little.
func worse(rng *rand.Rand, corpus []string) string {
	text := []byte(corpus[rng.IntN(len(corpus))])
	const special = "{}[]:,\"'&*!|>#%@` \n\t-?<~\\\x00\xff0aeEx."
	for range rng.IntN(4) {
		at := 0
		if len(text) > 0 {
			at = rng.IntN(len(text))
		}
		rest := string(text[at:])
		switch text = text[:at:at]; rng.IntN(5) {
		case 0: // cut off
		case 1:
			text = append(append(text, special[rng.IntN(len(special))]), rest...)
		case 2:
			text = append(text, rest[min(1, len(rest)):]...)
		case 3:
			text = append(append(text, rest...), rest...)
		default:
			text = append(text, corpus[rng.IntN(len(corpus))]...)
		}
		text = text[:min(len(text), 1<<18)]
	}
	return string(text)
}

// F17: a document as large as etcd takes is read, copied and started from; and one that is too large for its reader is refused, and held
// by nobody.
func TestTheLargestDocumentIsReadAndKept(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, nil)
	link, oracle := c.Link(0), c.Oracle(0)
	opts := &config.Options[string]{CacheDir: t.TempDir(), Identity: config.Identity{ID: "a"}}
	document := strings.Repeat("x", codec.MaxSize-1<<10)
	revision := put(t, oracle, "document", document)
	v := open(t, link.Client(), "document", opts)
	if s := v.Snapshot(); s.Value != document || s.Revision != revision {
		t.Errorf("%d bytes of revision %d", len(s.Value), s.Revision)
	}
	reported(t, oracle, "document", "a", "the document", applies(revision, ""))
	changed := changes(t, v)
	next(t, changed)
	document = strings.Repeat("y", codec.MaxSize-1<<10)
	revision = put(t, oracle, "document", document)
	if s := next(t, changed); s.Value != document || s.Revision != revision {
		t.Errorf("%d bytes of revision %d", len(s.Value), s.Revision)
	}
	v.Close()
	link.Cut()
	if s := open(t, link.Client(), "document", opts).Snapshot(); s.Value != document || s.Revision != revision || s.Source != config.Disk {
		t.Errorf("started with %d bytes of revision %d, %s", len(s.Value), s.Revision, s.Source)
	}
}
