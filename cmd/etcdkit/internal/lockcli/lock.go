package lockcli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/session"
)

// NewLock returns the command.
func NewLock() *cobra.Command {
	f := &flags{}
	var l locking
	again := false
	c := &cobra.Command{
		Use:   "lock NAME -- CMD [ARG...]",
		Short: "Run a command while holding a lock",
		Long: `Run a command while holding a lock: one at a time on all machines, in the order in which they come. With
--shared, together with others that say so too; with --semaphore N, so many at a time.

The command finds in its environment ETCDKIT_NAME, ETCDKIT_KEY (in etcd), ETCDKIT_TOKEN (the fencing token:
larger than those of all who held it before) and, with --semaphore, ETCDKIT_SLOT (0 to N-1, nobody else's
while it runs).
` + stopping + codes,
		Example: `  etcdkit lock migrations -- ./migrate.sh
  etcdkit lock nightly/report --try -- report --all
  etcdkit lock builds --semaphore 4 --timeout 10m -- sh -c 'make -C "build-$ETCDKIT_SLOT"'`,
		Args: arguments,
	}
	f.register(c, "is held or waited for")
	set := c.Flags()
	set.BoolVar(&l.shared, "shared", false, "hold it together with others that are --shared, as readers do")
	set.IntVar(&l.size, "semaphore", 0, "let N hold it at a time; all who use the name must say the same")
	set.IntVar(&l.weight, "weight", 1, "count as so many of --semaphore")
	c.RunE = run(f, func(name string) (kind, error) {
		l.name = name
		switch {
		case l.shared && set.Changed("semaphore"):
			return nil, errors.New("--shared and --semaphore: only one of them can be meant")
		case set.Changed("semaphore") && l.size < 1:
			return nil, fmt.Errorf("--semaphore %d: it must be positive", l.size)
		case set.Changed("weight") && l.size == 0:
			return nil, errors.New("--weight goes with --semaphore")
		case l.size > 0 && (l.weight < 1 || l.weight > l.size):
			return nil, fmt.Errorf("--weight %d: it must be 1 to %d", l.weight, l.size)
		}
		return &l, nil
	}, &again)
	return c
}

// locking is a lock as the kind of thing to hold.
type locking struct {
	name         string
	shared       bool
	size, weight int
}

// take waits for the lock, or does not.
func (l *locking) take(ctx context.Context, s *session.Session, try bool) (holding, error) {
	var held *lock.Held
	var err error
	switch {
	case l.size > 0 && try:
		held, err = lock.NewSemaphore(s, l.name, l.size).TryAcquire(ctx, l.weight)
	case l.size > 0:
		held, err = lock.NewSemaphore(s, l.name, l.size).Acquire(ctx, l.weight)
	default:
		m := lock.NewMutex(s, l.name)
		if l.shared {
			m = lock.NewRWMutex(s, l.name).Reader()
		}
		if try {
			held, err = m.TryLock(ctx)
		} else {
			held, err = m.Lock(ctx)
		}
	}
	if errors.Is(err, lock.ErrLocked) {
		err = exit.With(exit.NotObtained, err)
	}
	if err != nil {
		return nil, err
	}
	return heldLock{held}, nil
}

// environment is what the command is told besides what it is always told.
func (l *locking) environment(ctx context.Context, h holding) ([]string, error) {
	held, ok := h.(heldLock)
	if !ok || l.size == 0 {
		return nil, nil
	}
	slot, err := held.Slot(ctx)
	if err != nil {
		return nil, err
	}
	return []string{"ETCDKIT_SLOT=" + strconv.Itoa(slot)}, nil
}

// waitingFor says who holds the lock, and how many come before.
func (l *locking) waitingFor(ctx context.Context, u *cli.Use, s *session.Session) string {
	owners, err := lock.Inspect(ctx, u.Client(), l.name)
	if err != nil {
		return ""
	}
	var first string
	holders, ahead := 0, 0
	for _, o := range owners {
		switch {
		case o.Holds:
			if holders++; holders == 1 {
				first = describe(o)
			}
		case o.Lease == s.Lease():
			return waitingText(first, holders, ahead)
		default:
			ahead++
		}
	}
	return waitingText(first, holders, ahead)
}

// describe says who an owner is.
func describe(o lock.Owner) string {
	if o.Who == "" {
		return fmt.Sprintf("%s (lease %x)", o.Key, int64(o.Lease))
	}
	text := fmt.Sprintf("%s on %s (process %d)", o.Who, o.Host, o.PID)
	if came := cli.Ago(o.Since); came != "" {
		text += ", who came " + came
	}
	return text
}

// waitingText is what is said of who holds, and how many more wait.
func waitingText(first string, holders, ahead int) string {
	text := ""
	switch {
	case holders == 1:
		text = "held by " + first
	case holders > 1:
		text = fmt.Sprintf("held by %s and %d more", first, holders-1)
	}
	if ahead > 0 {
		if text != "" {
			text += "; "
		}
		text += cli.Plural(ahead, "more is ahead", "more are ahead")
	}
	return text
}

// heldLock is a held lock as something that is held.
type heldLock struct{ *lock.Held }

func (h heldLock) giveBack(ctx context.Context) error { return h.Unlock(ctx) }
