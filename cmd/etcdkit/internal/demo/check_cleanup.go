package demo

import "fmt"

// cleanup is the evidence about the processes that were started.
type cleanup struct {
	started int
	alive   []int            // ids of those that still run
	members map[string]error // how etcd's members ended; nil for code 0
}

// check holds if none of them runs any more, and etcd's members have stopped in order.
func (c cleanup) check() (string, error) {
	for name, err := range c.members {
		if err != nil {
			return broken("%s: %v", name, err)
		}
	}
	if len(c.members) == 0 || c.started == 0 {
		return broken("nothing was started")
	}
	if len(c.alive) > 0 {
		return broken("processes %v still run", c.alive)
	}
	return fmt.Sprintf("%d processes started, 0 left", c.started), nil
}
