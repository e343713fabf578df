package lockcli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/session"
)

// errLed is why a candidacy that does not wait has ended.
var errLed = errors.New("led by somebody else")

// NewElect returns the command.
func NewElect() *cobra.Command {
	f := &flags{}
	var e electing
	again := false
	c := &cobra.Command{
		Use:   "elect NAME -- CMD [ARG...]",
		Short: "Run a command while leading",
		Long: `Stand for an election, and run a command while leading. When it ends the term is given up, and the next in
line leads.

With --restart it is there for good: after a term was lost, and after the command has ended, with whatever
code, it stands again, at the end of the line, and runs the command anew when it leads. A command that ends
soon is waited for: 1s, then twice as long each time, up to 30s. It ends when it is told to (SIGINT,
SIGTERM, SIGHUP, SIGQUIT), or the command was ended by SIGINT, with the code of the command; and if the
command cannot be run.

The command finds in its environment ETCDKIT_NAME, ETCDKIT_KEY (in etcd), ETCDKIT_VALUE and ETCDKIT_TOKEN
(the fencing token: larger than those of all terms before).
` + stopping + codes,
		Example: `  etcdkit elect scheduler --value 10.0.0.7:80 --restart -- ./scheduler
  etcdctl get --prefix --sort-by=CREATE --limit=1 scheduler/    # who leads`,
		Args: arguments,
	}
	f.register(c, "is led by somebody else")
	set := c.Flags()
	set.StringVar(&e.value, "value", "", "what others see of the leader, an address usually (default the host's name)")
	set.BoolVar(&again, "restart", false, "stand again after a loss, and after the command has ended")
	c.RunE = run(f, func(name string) (kind, error) {
		e.name = name
		if again && f.try {
			return nil, errors.New("--try and --restart: only one of them can be meant")
		}
		if !set.Changed("value") {
			e.value, _ = os.Hostname()
		}
		return &e, nil
	}, &again)
	return c
}

// electing is an election as the kind of thing to hold.
type electing struct{ name, value string }

// take waits for a term, or does not.
func (e *electing) take(ctx context.Context, s *session.Session, try bool) (holding, error) {
	if !try {
		term, err := election.Campaign(ctx, s, e.name, e.value)
		if err != nil {
			return nil, err
		}
		return heldTerm{term}, nil
	}
	if leader, err := election.Current(ctx, s.Client(), e.name); err == nil && leader.Token != 0 {
		return nil, e.led()
	}
	// Somebody may be faster: whoever stands is told who leads, and leaves if that is another.
	trying, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for leader, err := range election.Observe(trying, s.Client(), e.name) {
			switch {
			case err != nil || leader.Token == 0:
			case e.stands(leader.Key, s):
				return
			default:
				cancel(e.led())
			}
		}
	}()
	term, err := election.Campaign(trying, s, e.name, e.value)
	won := err == nil
	cancel(nil)
	<-watched
	if !won {
		return nil, err
	}
	return heldTerm{term}, nil
}

// led is the error of a candidacy that does not wait.
func (e *electing) led() error {
	return exit.With(exit.NotObtained, fmt.Errorf("%s: %w", e.name, errLed))
}

// stands reports whether a key is one of a session's.
func (e *electing) stands(key string, s *session.Session) bool {
	rest, ours := strings.CutPrefix(key, fmt.Sprintf("%s/%x", e.name, int64(s.Lease())))
	return ours && (rest == "" || rest[0] == '-')
}

// environment is what the command is told besides what it is always told.
func (e *electing) environment(context.Context, holding) ([]string, error) {
	return []string{"ETCDKIT_VALUE=" + e.value}, nil
}

// waitingFor says who leads, and how many come before.
func (e *electing) waitingFor(ctx context.Context, u *cli.Use, s *session.Session) string {
	all, err := election.Candidates(ctx, u.Client(), e.name)
	if err != nil || len(all) == 0 {
		return ""
	}
	text := "led by " + all[0].Value
	if all[0].Value == "" {
		text = "led by " + all[0].Key
	}
	for n, one := range all {
		if n > 1 && e.stands(one.Key, s) {
			return text + "; " + cli.Plural(n-1, "more is ahead", "more are ahead")
		}
	}
	return text
}

// heldTerm is a term as something that is held.
type heldTerm struct{ *election.Term }

func (h heldTerm) giveBack(ctx context.Context) error { return h.Resign(ctx) }
