package registry

import (
	"slices"
	"sync"
)

// absent is the value of an instance that is to have no key.
const absent = ""

// wish is an instance as it is to stand in etcd.
type wish struct {
	instance Instance // as it was asked for
	value    string   // as it is written
	number   int64    // the later, the larger
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
	longest := i
	longest.State = Draining // which must not be refused when it leaves; "starting" is no longer
	value, err := encode(longest)
	if err != nil {
		return wish{}, err
	}
	if len(i.ID)+len(value) > maxSize {
		return wish{}, errLarge
	}
	return wish{instance: i}, nil
}

// wishes holds the newest wish, and who waits for one to be granted. What is wished has three sources, which know nothing of
// each other: the instance as its program wants it, the verdict of its health checks, and who takes it out of traffic from outside. What is
// to be written follows from all.
type wishes struct {
	made chan struct{} // holds a token when a wish has been made that the announcer has not looked at
	hide bool          // what is not Ready is to have no key

	mu      sync.Mutex
	current wish     // guarded by mu
	ill     error    // guarded by mu: the verdict, nil for healthy
	out     bool     // guarded by mu: it was asked from outside to drain
	waiting []waiter // guarded by mu; in order of their numbers
	over    error    // guarded by mu: what those are told who come too late
}

// waiter waits for a wish, or a newer one, to be granted.
type waiter struct {
	number int64
	told   chan error
}

func newWishes(first wish, hide bool) *wishes {
	w := &wishes{made: make(chan struct{}, 1), hide: hide, current: first}
	w.current.value = w.written(first.instance)
	return w
}

// written is the value of what is asked for, by the present verdict. The caller holds mu.
func (w *wishes) written(asked Instance) string {
	if asked.State == Ready && w.ill != nil {
		asked.State = Starting
	}
	if w.out {
		asked.State = Draining
	}
	if asked.State != Ready && w.hide {
		return absent
	}
	value, err := encode(asked)
	if err != nil {
		return w.current.value // it has been encoded before: strings and numbers cannot fail
	}
	return value
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
	w.renew(next.instance)
	w.waiting = append(w.waiting, waiter{w.current.number, told})
	return told
}

// judge takes in a verdict. Nobody waits for what becomes of it.
func (w *wishes) judge(ill error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ill = ill
	if w.over == nil {
		w.renew(w.current.instance)
	}
}

// detain takes in whether it is asked from outside that the instance drain, and reports whether that is new. Nobody waits for what becomes
// of it.
func (w *wishes) detain(out bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == out || w.over != nil {
		return false
	}
	w.out = out
	w.renew(w.current.instance)
	return true
}

// illness is what keeps an instance from being in the state that its program wants: who has asked for another, or the verdict.
func (w *wishes) illness() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out && w.current.instance.State != Draining {
		return ErrDrained
	}
	if w.current.instance.State != Ready {
		return nil
	}
	return w.ill
}

// renew makes the next wish. The caller holds mu.
func (w *wishes) renew(asked Instance) {
	w.current = wish{instance: asked, value: w.written(asked), number: w.current.number + 1}
	token(w.made)
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
