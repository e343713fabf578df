package chaos_test

import (
	"testing"
	"time"
)

// perRound is how many episodes the workers stay in one line for.
const perRound = 4

// ETCDKIT_CHAOS_SECONDS is how long each kind is under faults (8), ETCDKIT_CHAOS_SEED the schedule.
func TestNoTwoBelieveUnderAnyTwoFaults(t *testing.T) {
	seed := seeded(t)
	long, asked := lasts(t)
	var handOvers, under, episodes int
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			lines := []kind{k}
			if asked {
				lines = []kind{k, k, k}
			}
			a := newArena(t, seed, lines...)
			y := a.tallies[k.name]
			n := a.storm(newSchedule(seed).next, long)
			t.Logf("seed %d, %d episodes: %v", seed, n, y)
			y.clean(t)
			if y.handOvers == 0 {
				t.Error("no hand-over: nothing was seen")
			}
			handOvers, under, episodes = handOvers+y.handOvers, under+y.under, episodes+n
		})
	}
	t.Logf("seed %d: %d hand-overs in %d episodes of two faults each, %d of them while faults were on", seed, handOvers, episodes, under)
	if asked && long >= time.Minute && handOvers < 1000 {
		t.Errorf("%d hand-overs in so long a run: it proves little", handOvers)
	}
}

// storm has all go through one episode after the other for as long as is said, and returns how many there were.
func (a *arena) storm(next func() episode, long time.Duration) (episodes int) {
	a.t.Helper()
	for end := time.Now().Add(long); time.Now().Before(end) && !a.t.Failed(); {
		var some []episode
		// Those of a round, or fewer if they would outlast the time.
		for left := time.Until(end); len(some) < perRound && left > 0; {
			e := next()
			some = append(some, e)
			left -= e.gap + e.lasts + time.Second // and the calm thereafter
		}
		a.round(some...)
		episodes += len(some)
	}
	return episodes
}

// The very same faults are found out where belief does overlap: in etcd's own mutex. If ETCDKIT_CHAOS_SECONDS is set, they last for
// that long, and for as long again holders are cut off, which hurts most; otherwise these come until the overlap was seen.
func TestTheSameFaultsFindTwoWhoBelieveInConcurrency(t *testing.T) {
	seed := seeded(t)
	long, asked := lasts(t)
	a := newArena(t, seed, mutex, guarded, unguarded)
	s := newSchedule(seed)
	our, their, plain := a.tallies[mutex.name], a.tallies[guarded.name], a.tallies[unguarded.name]
	episodes := 0
	if asked {
		episodes = a.storm(s.next, long) + a.storm(s.nextCut, long)
	}
	for range 20 {
		if len(their.overlaps) > 0 && plain.writtenLate > 0 || t.Failed() {
			break
		}
		a.round(s.nextCut())
		episodes++
	}
	for name, y := range a.tallies {
		t.Logf("seed %d, %d episodes, %s: %v", seed, episodes, name, y)
	}
	our.clean(t)
	if len(their.overlaps) == 0 {
		t.Errorf("no two of concurrency.Mutex believed together in %d episodes: these faults prove nothing", episodes)
	} else {
		t.Logf("in concurrency.Mutex, overlap of belief %v", their.overlaps[0])
	}
	if len(their.illegal) == 0 {
		t.Error("the checker finds nothing wrong with the history of concurrency.Mutex")
	}
	if plain.writtenLate == 0 {
		t.Error("the checker finds nothing wrong with the unguarded writes of those who own no longer")
	}
}
