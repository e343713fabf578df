package follow_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) {
	// Most tests here wait for something that takes etcd or the view seconds: more of them fit side by side than there are
	// processors. The command line overrides this.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	etcdtest.Main(m)
}

// soon is long enough for whatever should happen at once, on a busy machine.
const soon = 10 * time.Second

// long skips a test that takes minutes, unless ETCDKIT_FOLLOW_LONG is set.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("ETCDKIT_FOLLOW_LONG") == "" {
		t.Skip("takes minutes: set ETCDKIT_FOLLOW_LONG to run it")
	}
}

// seeded returns a source of random numbers for a test's schedule. ETCDKIT_FOLLOW_SEED repeats a run's: the
// schedule is the same again, though not what the machine makes of it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("ETCDKIT_FOLLOW_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ETCDKIT_FOLLOW_SEED: %v", err)
		}
	}
	t.Logf("ETCDKIT_FOLLOW_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}
