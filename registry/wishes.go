package registry

import (
	"slices"
	"sync"
)

// wish is an instance as it is to stand in etcd.
type wish struct {
	instance Instance
	value    string // as it is written
	number   int64  // the later, the larger
}

// newWish checks an instance and fills in its defaults.
func newWish(i Instance) (wish, error) {
	i = i.clone() // the caller keeps what it has
	if i.Weight == 0 {
		i.Weight = defaultWeight
	}
	if err := i.checkOwn(); err != nil {
		return wish{}, err
	}
	value, err := encode(i)
	if err != nil {
		return wish{}, err
	}
	if len(i.ID)+len(value) > maxSize {
		return wish{}, errLarge
	}
	return wish{instance: i, value: value}, nil
}

// wishes holds the newest wish, and who waits for one to be granted.
type wishes struct {
	made chan struct{} // holds a token when a wish has been made that the announcer has not looked at

	mu      sync.Mutex
	current wish     // guarded by mu
	waiting []waiter // guarded by mu; in order of their numbers
	over    error    // guarded by mu: what those are told who come too late
}

// waiter waits for a wish, or a newer one, to be granted.
type waiter struct {
	number int64
	told   chan error
}

func newWishes(first wish) *wishes {
	return &wishes{made: make(chan struct{}, 1), current: first}
}

// newest is what is wanted now.
func (w *wishes) newest() wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// add replaces the newest wish, and returns where one error or nil will tell what became of it.
func (w *wishes) add(next wish) <-chan error {
	told := make(chan error, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over != nil {
		told <- w.over
		return told
	}
	next.number = w.current.number + 1
	w.current = next
	w.waiting = append(w.waiting, waiter{next.number, told})
	select {
	case w.made <- struct{}{}:
	default:
	}
	return told
}

// settle tells those who wait for a wish up to the given number what became of it.
func (w *wishes) settle(number int64, result error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.waiting) && w.waiting[n].number <= number {
		w.waiting[n].told <- result
		n++
	}
	w.waiting = slices.Delete(w.waiting, 0, n)
}

// close tells everybody who waits, and who comes later, that no wish is granted any more.
func (w *wishes) close(why error) {
	w.mu.Lock()
	w.over = why
	last := w.current.number
	w.mu.Unlock()
	w.settle(last, why)
}
