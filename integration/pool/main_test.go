package pool_test

import (
	"flag"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/pool"
)

func TestMain(m *testing.M) {
	// Most tests here wait for seconds: more of them fit side by side than there are processors. The command line
	// overrides this.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 10 * time.Second

// open opens a pool that is closed when the test ends. It has the time that a busy machine takes.
func open(t *testing.T, cfg pool.Config) *pool.Pool {
	t.Helper()
	if cfg.Retry.ConnectTimeout == 0 {
		cfg.Retry.ConnectTimeout = soon
	}
	p, err := pool.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}
