package health_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/health"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/session"
)

// soon is the patience with what has no bound of its own; a busy machine may need it.
const soon = 15 * time.Second

// answer asks a handler.
func answer(ctx context.Context, h http.Handler) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/?verbose", nil))
	return w.Code, w.Body.String()
}

// becomes waits until a handler answers with a status and all the given lines' beginnings.
func becomes(t *testing.T, h http.Handler, status int, lines ...string) {
	t.Helper()
	etcdtest.Eventually(t, soon, fmt.Sprint(status, lines), func(ctx context.Context) error {
		got, body := answer(ctx, h)
		for _, line := range lines {
			if got != status || !strings.Contains("\n"+body, "\n"+line) {
				return fmt.Errorf("%d: %s", got, body)
			}
		}
		return nil
	})
}

// never asks a handler again and again until stop, which fails the test if there ever was another status than 200.
func never(t *testing.T, h http.Handler) (stop func()) {
	t.Helper()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticks := time.NewTicker(5 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
			case <-end:
				return
			}
			if status, body := answer(context.Background(), h); status != http.StatusOK {
				t.Errorf("%d: %s", status, body)
				return
			}
		}
	}()
	return func() { close(end); <-done }
}

// An outage of etcd is nothing that a restart of the fleet would mend: it would cost the last good values, too.
func TestAnOutageOfEtcdMakesAProcessUnreadyAndRestartsNobody(t *testing.T) {
	c := etcdtest.New(t, &etcdtest.Options{Members: 3})
	cli := c.Client()
	short := &session.Options{TTL: 2 * time.Second}
	registration, err := registry.Register(t.Context(), cli, registry.Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80"}, &registry.Options{Session: short})
	if err != nil {
		t.Fatal(err)
	}
	view, err := registry.Watch(t.Context(), cli, "mail", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(t.Context(), "limits", "5"); err != nil {
		t.Fatal(err)
	}
	limits, err := config.Open[int](t.Context(), cli, "limits", nil)
	if err != nil {
		t.Fatal(err)
	}
	keeper := session.NewKeeper(cli, short)
	first, err := keeper.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var leadership election.Health

	ready := health.Readiness(map[string]health.Checker{
		"announced": registration, "limits": limits, "mail": view, "session": health.Context(first.Context()),
	})
	tolerant := health.Readiness(map[string]health.Checker{
		"limits": health.Only(limits, config.ErrAbsent, config.ErrClosed), "mail": health.Only(view, registry.ErrClosed),
	})
	alive := health.Liveness(map[string]health.Fatal{
		"announced": health.FatalIf(registration, registry.ErrClosed),
		"leading":   health.FatalFunc(leadership.Check),
		"limits":    health.FatalIf(limits, config.ErrClosed),
		"mail":      health.FatalIf(view, registry.ErrClosed),
	})
	becomes(t, ready, 200, "announced: ok", "limits: ok", "mail: ok", "session: ok")
	stopAlive, stopTolerant := never(t, alive), never(t, tolerant)

	c.Stop()
	becomes(t, ready, 503, "announced: registry", "limits: config", "mail: registry", "session: session: lease")
	c.Restart()
	becomes(t, ready, 503, "announced: ok", "limits: ok", "mail: ok", "session: session: lease") // it is over, and stays so
	stopTolerant()

	// Neither does what anybody may write, unless the process has chosen so.
	for key, value := range map[string]string{"services/mail/b": "garbage", "limits": "five"} {
		if _, err := cli.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	becomes(t, ready, 503, "limits: config", "mail: registry")
	if status, body := answer(t.Context(), tolerant); status != 200 {
		t.Errorf("%d: %s", status, body)
	}
	if _, body := answer(t.Context(), ready); strings.Contains(body, "garbage") || strings.Contains(body, "five") {
		t.Errorf("it quotes what is in etcd: %s", body)
	}
	stopAlive()

	if err := registration.Close(t.Context()); err != nil {
		t.Error(err)
	}
	view.Close()
	limits.Close()
	if err := keeper.Close(t.Context()); err != nil {
		t.Error(err)
	}
	becomes(t, alive, 503, "announced: registry", "leading: ok", "limits: config", "mail: registry")
}
