package chaos_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

const (
	// soon is the patience with what should happen at once, on a busy machine.
	soon = 10 * time.Second

	// recovery is how long the owners of a line may take, once all is well again, to go on: those who are gone are waited
	// for, for a TTL, and for one more for each change of etcd's leader meanwhile.
	recovery = 30 * time.Second
)

// lasts returns for how long a lock is put under faults, and whether that was asked for.
func lasts(t *testing.T) (d time.Duration, asked bool) {
	t.Helper()
	seconds := fromEnv(t, "ETCDKIT_CHAOS_SECONDS", 0)
	if seconds == 0 {
		return 8 * time.Second, false
	}
	return time.Duration(seconds) * time.Second, true
}

// seeded returns the seed of a test's schedule. ETCDKIT_CHAOS_SEED repeats a run's: the faults are the same again, though not
// what the machine makes of them.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := fromEnv(t, "ETCDKIT_CHAOS_SEED", rand.Uint64())
	t.Logf("ETCDKIT_CHAOS_SEED=%d", seed)
	return seed
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, v, err)
	}
	return n
}
