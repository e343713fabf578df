package config_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// opened is what a config.Open that runs beside the test returned.
type opened[T any] struct {
	v   *config.Value[T]
	err error
}

// opening runs config.Open beside the test, which closes the Value.
func opening[T any](ctx context.Context, cli *clientv3.Client, key string, opts *config.Options[T]) <-chan opened[T] {
	out := make(chan opened[T], 1)
	go func() {
		v, err := config.Open(ctx, cli, key, opts)
		out <- opened[T]{v, err}
	}()
	return out
}

func TestAnAbsentKeyWithADefaultIsTheDefaultAndErrSaysSo(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	initial := 8080
	v := open(t, cli, key, &config.Options[int]{Default: &initial})
	initial = 0 // the Value has its own
	s := v.Snapshot()
	if v.Get() != 8080 || s.Source != config.Default || s.Revision != 0 || s.SyncedAt.IsZero() {
		t.Errorf("got %d, %+v", v.Get(), s)
	}
	if err := v.Err(); !errors.Is(err, config.ErrAbsent) || !strings.Contains(err.Error(), key) {
		t.Errorf("Err is: %v", err)
	}

	changed := changes(t, v)
	if s := next(t, changed); s.Value != 8080 || s.Source != config.Default {
		t.Errorf("the current value is %+v", s)
	}
	revision := put(t, cli, key, "9090")
	if s := next(t, changed); s.Value != 9090 || s.Revision != revision || s.Source != config.Live || v.Err() != nil {
		t.Errorf("after its creation: %+v, %v", s, v.Err())
	}
}

func TestAnAbsentKeyWithoutADefaultIsWaitedFor(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	waiting := opening[int](t.Context(), cli, key, nil)
	etcdtest.Nothing(t, 300*time.Millisecond, "Open waits", waiting)
	revision := put(t, cli, key, "8080")
	o := etcdtest.Receive(t, soon, "Open returns", waiting)
	if o.err != nil {
		t.Fatal(o.err)
	}
	defer o.v.Close()
	if o.v.Get() != 8080 || o.v.Snapshot().Revision != revision || o.v.Err() != nil {
		t.Errorf("got %d, %v", o.v.Get(), o.v.Err())
	}
}

func TestTheWaitForAnAbsentKeyEndsWithTheContext(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	reason := errors.New("the operator lost patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting := opening[int](ctx, cli, key, nil)
	etcdtest.Nothing(t, 300*time.Millisecond, "Open waits", waiting)
	cancel(reason)
	o := etcdtest.Receive(t, 250*time.Millisecond, "Open returns", waiting)
	if !errors.Is(o.err, config.ErrAbsent) || !errors.Is(o.err, reason) || !strings.Contains(o.err.Error(), key) {
		t.Errorf("got %v", o.err)
	}

	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_, err := config.Open[int](ctx, cli, key, nil)
	if !errors.Is(err, config.ErrAbsent) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestABadFirstDocumentFailsOpenPromptlyWithThePlace(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"service"
	put(t, cli, key, "addr: :8080\nlimits:\n  rate: many\n")
	etcdtest.Returns(t, soon, "Open", func() {
		_, err := config.Open[service](t.Context(), cli, key, nil)
		var where *codec.Error
		if !errors.Is(err, config.ErrRefused) || !errors.As(err, &where) || where.Line != 3 || where.Field != "limits" {
			t.Errorf("got %v", err)
		}
	})

	rule := errors.New("addr must name a port")
	put(t, cli, key, "addr: localhost")
	_, err := config.Open(t.Context(), cli, key, &config.Options[service]{Validate: func(service) error { return rule }})
	if !errors.Is(err, config.ErrRefused) || !errors.Is(err, rule) {
		t.Errorf("got %v", err)
	}
}

func TestABadFirstDocumentWithADefaultIsTheDefaultAndErrSaysSo(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"service"
	put(t, cli, key, "addr: [")
	v := open(t, cli, key, &config.Options[service]{Default: &service{Addr: ":80"}})
	if s := v.Snapshot(); v.Get().Addr != ":80" || s.Source != config.Default || !errors.Is(v.Err(), config.ErrRefused) {
		t.Errorf("got %+v, %v", s, v.Err())
	}
	put(t, cli, key, "addr: :8080")
	becomes(t, v, nil)
	if v.Get().Addr != ":8080" {
		t.Errorf("got %+v", v.Get())
	}
}

// The created document may be the bad one.
func TestABadDocumentEndsTheWaitForAnAbsentKey(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	waiting := opening[int](t.Context(), cli, key, nil)
	etcdtest.Nothing(t, 100*time.Millisecond, "Open waits", waiting)
	put(t, cli, key, "eighty")
	if o := etcdtest.Receive(t, soon, "Open returns", waiting); !errors.Is(o.err, config.ErrRefused) {
		t.Errorf("got %v", o.err)
	}
}

// A default stands for an absent key, and not for an etcd that nobody has asked.
func TestOpenWithoutEtcdFailsPromptlyAndNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := refusing.Addr().String()
	refusing.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	initial := 8080
	for _, c := range []struct {
		endpoint string
		within   time.Duration
		says     string
	}{
		{nobody, 5 * time.Second, "refused"},
		{mute.Addr().String(), 12 * time.Second, "does not answer"},
	} {
		for _, opts := range []*config.Options[int]{nil, {Default: &initial}} {
			t.Run(c.says, func(t *testing.T) {
				t.Parallel()
				cli := etcdtest.Dial(t, clientv3.Config{Endpoints: []string{c.endpoint}})
				etcdtest.Returns(t, c.within, "Open", func() {
					_, err := config.Open(t.Context(), cli, "port", opts)
					if err == nil || !strings.Contains(err.Error(), c.endpoint) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("got %v", err)
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err := config.Open(ctx, cli, "port", opts)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.endpoint) {
					t.Errorf("with a short time: %v", err)
				}
			})
		}
	}
}

// A Validate that hangs is the program's own; the time of the caller of Open is the caller's.
func TestOpenReturnsWithItsContextThoughValidateHangs(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"port"
	put(t, cli, key, "8080")
	called, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	waiting := opening(ctx, cli, key, &config.Options[int]{Validate: func(int) error {
		close(called)
		<-release
		return nil
	}})
	etcdtest.Done(t, soon, "Validate is called", called)
	cancel()
	if o := etcdtest.Receive(t, 250*time.Millisecond, "Open returns", waiting); !errors.Is(o.err, context.Canceled) {
		t.Errorf("got %v", o.err)
	}
}

// The least a reader needs is READ on the key. Without it, Open says so at once.
func TestOpenNeedsTheRightToReadTheKeyAndNoOther(t *testing.T) {
	c := etcdtest.New(t, nil)
	root := secure(t, c, "port")
	put(t, root, "port", "8080")
	put(t, root, "secret", "1")
	reader := c.Dial(clientv3.Config{Username: "reader", Password: "reader"})
	v := open[int](t, reader, "port", nil)
	changed := changes(t, v)
	next(t, changed)
	put(t, root, "port", "9090")
	next(t, changed)
	etcdtest.Returns(t, soon, "Open", func() {
		_, err := config.Open(t.Context(), reader, "secret", &config.Options[int]{Default: new(int)})
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("got %v", err)
		}
	})
}

// secure turns authentication on, with a user who may read one key, and returns the client of one who may do all.
func secure(t *testing.T, c *etcdtest.Cluster, key string) *clientv3.Client {
	t.Helper()
	ctx, cli := t.Context(), c.Client()
	_, err := cli.RoleAdd(ctx, "root")
	_, err2 := cli.UserAdd(ctx, "root", "root")
	_, err3 := cli.UserGrantRole(ctx, "root", "root")
	_, err4 := cli.RoleAdd(ctx, "reader")
	_, err5 := cli.RoleGrantPermission(ctx, "reader", key, "", clientv3.PermissionType(clientv3.PermRead))
	_, err6 := cli.UserAdd(ctx, "reader", "reader")
	_, err7 := cli.UserGrantRole(ctx, "reader", "reader")
	_, err8 := cli.AuthEnable(ctx)
	if err := errors.Join(err, err2, err3, err4, err5, err6, err7, err8); err != nil {
		t.Fatal(err)
	}
	return c.Dial(clientv3.Config{Username: "root", Password: "root"})
}

// Values of one key share a view, which is a moment behind etcd, as all views are. Who opens a Value does not get an older document
// than etcd held at that time.
func TestOpenIsNotOlderThanWhatWasPutBefore(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"n"
	put(t, cli, key, "0")
	open[int](t, cli, key, nil)
	for n := range 200 {
		put(t, cli, key, strconv.Itoa(n+1))
		v, err := config.Open[int](t.Context(), cli, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v.Get() != n+1 {
			t.Fatalf("put %d, and opened with %d", n+1, v.Get())
		}
		v.Close()
	}
}
