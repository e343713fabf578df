package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// diary is what subscribers do, in order.
type diary struct {
	mu      sync.Mutex
	entries []string // guarded by mu
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

// read returns what was written since the last time.
func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries := d.entries
	d.entries = nil
	return entries
}

// subscribe binds a part of a program that keeps the diary, and refuses what refuses says.
func (d *diary) subscribe(t *testing.T, v *Value[int], name string, refuses func(int) error) (unbind func()) {
	t.Helper()
	unbind, err := v.Bind(func(old, new int) (func(), func(), error) {
		if refuses != nil {
			if err := refuses(new); err != nil {
				return nil, nil, err
			}
		}
		d.write("%s prepares %d to %d", name, old, new)
		return func() { d.write("%s commits %d while Get is %d", name, new, v.Get()) },
			func() { d.write("%s aborts %d while Get is %d", name, new, v.Get()) }, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return unbind
}

// opentelemetry-collector#6226, data-api-builder#3742: a change that one part takes and another refuses leaves a program that
// runs two configurations.
func TestAllSubscribersTakeAValueOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, etcd := running(t, &Options[int]{Codec: decimal{}})
		etcd.Changed(follow.Change{Initial: true, Revision: 1, Events: []follow.Event{{Key: "port", New: put(1, "1")}}})
		etcd.Live()
		synctest.Wait()
		var d diary
		refused := errors.New("port 3 is taken")
		unbind := d.subscribe(t, v, "A", nil)
		d.subscribe(t, v, "B", nil)
		d.subscribe(t, v, "C", func(n int) error {
			switch n {
			case 3:
				return refused
			case 4:
				panic("hunter2")
			}
			return nil
		})
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := d.read(); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		expect("A prepares 0 to 1", "A commits 1 while Get is 1", "B prepares 0 to 1", "B commits 1 while Get is 1",
			"C prepares 0 to 1", "C commits 1 while Get is 1")
		etcd.Changed(step(2, put(2, "2")))
		expect("A prepares 1 to 2", "B prepares 1 to 2", "C prepares 1 to 2",
			"A commits 2 while Get is 2", "B commits 2 while Get is 2", "C commits 2 while Get is 2")
		etcd.Changed(step(3, put(3, "3")))
		expect("A prepares 2 to 3", "B prepares 2 to 3", "B aborts 3 while Get is 2", "A aborts 3 while Get is 2")
		if err := v.Err(); v.Get() != 2 || !errors.Is(err, ErrRefused) || !errors.Is(err, refused) || !strings.Contains(err.Error(), "subscriber 3 of 3") {
			t.Errorf("refused by one: %d, %v", v.Get(), err)
		}
		etcd.Changed(step(4, put(4, "4")))
		expect("A prepares 2 to 4", "B prepares 2 to 4", "B aborts 4 while Get is 2", "A aborts 4 while Get is 2")
		if err := v.Err(); v.Get() != 2 || !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("one panicked: %d, %v", v.Get(), err)
		}
		unbind()
		etcd.Changed(step(5, put(5, "5")))
		expect("B prepares 2 to 5", "C prepares 2 to 5", "B commits 5 while Get is 5", "C commits 5 while Get is 5")
		if err := v.Err(); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

// Between Get and a subscription a change could be missed; so binding applies what is in use.
func TestWhatRefusesTheValueInUseIsNotBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, etcd := running(t, &Options[int]{Codec: decimal{}})
		etcd.Changed(follow.Change{Initial: true, Revision: 1, Events: []follow.Event{{Key: "port", New: put(1, "1")}}})
		etcd.Live()
		synctest.Wait()
		why := errors.New("no such port")
		asked := 0
		unbind, err := v.Bind(func(int, int) (func(), func(), error) { asked++; return nil, nil, why })
		if unbind != nil || !errors.Is(err, why) || !strings.Contains(err.Error(), "port") {
			t.Errorf("bound: %v", err)
		}
		etcd.Changed(step(2, put(2, "2")))
		synctest.Wait()
		if v.Get() != 2 || asked != 1 {
			t.Errorf("got %d, asked %d times", v.Get(), asked)
		}
	})
}
