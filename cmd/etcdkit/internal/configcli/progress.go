package configcli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

// detachedError is the end of driving a rollout that has not ended.
type detachedError struct {
	key   string
	where string
}

func (e detachedError) Error() string {
	return fmt.Sprintf("the rollout stays at %s until somebody drives it: etcdkit config rollout resume %s", e.where, e.key)
}

// jsonProgress is where a rollout stands.
type jsonProgress struct {
	Key       string              `json:"key"`
	Rollout   string              `json:"rollout"`
	State     config.RolloutState `json:"state"`
	Cause     string              `json:"cause,omitempty"`
	Author    string              `json:"author,omitempty"`
	Reason    string              `json:"reason,omitempty"`
	Step      int                 `json:"step"` // from 1
	Steps     int                 `json:"steps"`
	Percent   float64             `json:"percent,omitempty"`
	Labels    map[string]string   `json:"labels,omitempty"`
	Soak      float64             `json:"soak"` // seconds
	Reporting int                 `json:"reporting"`
	Applied   []string            `json:"applied"`
	Awaited   []string            `json:"awaited"`
	Refused   []string            `json:"refused"`
	Failed    []string            `json:"failed"`
	Waiting   string              `json:"waiting,omitempty"`
	Soaking   bool                `json:"soaking,omitempty"`
	SoakLeft  float64             `json:"soakLeft,omitempty"` // seconds
	Error     string              `json:"error,omitempty"`    // why etcd cannot be followed at present
}

func progressFacts(key string, p config.Progress) jsonProgress {
	list := func(ids []string) []string { return append([]string{}, ids...) }
	facts := jsonProgress{
		Key: key, Rollout: p.Rollout, State: p.State, Cause: p.Cause, Author: p.Author, Reason: p.Reason,
		Step: p.Step, Steps: p.Steps, Percent: p.This.Percent, Labels: p.This.Labels, Soak: p.This.Soak.Seconds(),
		Reporting: p.Reporting, Applied: list(p.Applied), Awaited: list(p.Awaited), Refused: list(p.Refused), Failed: list(p.Failed),
		Waiting: p.Waiting, Soaking: p.Soaking, SoakLeft: math.Ceil(p.SoakLeft.Seconds()),
	}
	if p.Err != nil {
		facts.Error = plainly(p.Err.Error())
	}
	return facts
}

// drive drives a rollout and shows where it stands.
func (u *use) drive(ctx context.Context, r *config.Rollout) error {
	watching, enough := context.WithCancel(ctx)
	defer enough()
	last := make(chan config.Progress, 1)
	go func() { last <- u.follow(r.Key(), r.Changes(watching)) }()
	state, err := r.Drive(ctx)
	if err != nil && !errors.Is(err, config.ErrAborted) {
		enough() // else the end is still to be shown
	}
	p := <-last
	if ctx.Err() != nil && !state.Ended() {
		return detachedError{key: r.Key(), where: fmt.Sprintf("step %d of %d", max(p.Step, 1), max(p.Steps, 1))}
	}
	return ended(r, p, err)
}

// ended is the error of a rollout that has ended, which says in one way why it was taken back.
func ended(r *config.Rollout, p config.Progress, err error) error {
	if p.State == config.Aborted {
		return fmt.Errorf("%s: %w: %s", r.Key(), config.ErrAborted, p.Cause)
	}
	return err
}

// follow shows where a rollout stands, until that does not change any more, and returns the last it has seen.
func (u *use) follow(key string, changes iter.Seq[config.Progress]) config.Progress {
	var p config.Progress
	first := true
	for next := range changes {
		u.step(key, p, next, first)
		p, first = next, false
	}
	u.Out.Status("")
	return p
}

// step shows a change of where a rollout stands.
func (u *use) step(key string, old, p config.Progress, first bool) {
	if u.JSON {
		is, was := progressFacts(key, p), progressFacts(key, old)
		was.Waiting, was.SoakLeft = is.Waiting, is.SoakLeft // that time passes is no change
		if first || !reflect.DeepEqual(is, was) {
			u.Emit(is)
		}
		return
	}
	line := func(style screen.Style, format string, args ...any) {
		u.Out.Print(u.Out.Paint(screen.Dim, now().Format(time.TimeOnly)) + "  " + u.Out.Paint(style, cli.Visible(fmt.Sprintf(format, args...))))
	}
	if first {
		line(screen.Bold, "rollout %s of %s", p.Rollout, key)
	}
	if p.Step != old.Step && !p.State.Ended() {
		line(screen.Plain, "step %d of %d: %s", p.Step, p.Steps, stepText(p.This))
	}
	for _, id := range p.Refused {
		if !slices.Contains(old.Refused, id) {
			line(screen.Red, "%s has refused it", id)
		}
	}
	for _, id := range p.Failed {
		if !slices.Contains(old.Failed, id) {
			line(screen.Red, "%s has failed with it", id)
		}
	}
	if u.Verbose {
		for _, id := range p.Applied {
			if !slices.Contains(old.Applied, id) {
				line(screen.Plain, "%s has applied it", id)
			}
		}
	}
	if p.Soaking && (!old.Soaking || p.Step != old.Step || len(p.Applied) != len(old.Applied)) {
		line(screen.Plain, "%d of %d instances run it", len(p.Applied), p.Reporting)
	}
	if p.State != old.State {
		switch p.State {
		case config.Running:
			if !first {
				line(screen.Plain, "continued")
			}
		case config.Paused:
			line(screen.Yellow, "paused: %s", p.Cause)
		case config.Promoted:
			line(screen.Green, "promoted")
		case config.Aborted:
			line(screen.Red, "taken back: %s", p.Cause)
		}
	}
	switch {
	case p.Err != nil && old.Err == nil:
		line(screen.Yellow, "etcd cannot be followed: %s", plainly(p.Err.Error()))
	case p.Err == nil && old.Err != nil:
		line(screen.Plain, "etcd can be followed again")
	}
	if p.State.Ended() {
		u.Out.Status("")
	} else {
		u.Out.Status(standing(p))
	}
}

// standing is where a rollout stands, in a line.
func standing(p config.Progress) string {
	text := fmt.Sprintf("step %d of %d: %d of %d run it", p.Step, p.Steps, len(p.Applied), p.Reporting)
	switch {
	case p.Soaking:
		text += fmt.Sprintf("; soak, %d s left", int(math.Ceil(p.SoakLeft.Seconds())))
	case p.Waiting != "":
		text += "; waiting: " + cli.Visible(p.Waiting)
	}
	return text
}

func newRolloutStatus(f *flags) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "status KEY",
		Short: "Where a rollout stands",
		Long: `Where a rollout stands that is under way: its step, which instances run the value, and what it waits for. With
--follow it is shown until the rollout has ended, without driving it.

JSON: as that of rollout, and soakLeft in seconds.`,
		Args: cli.Arguments(1, "KEY"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			key := u.named(args[0])
			r, err := u.store.Resume(ctx, key, nil)
			if err != nil {
				return err
			}
			if follow {
				return u.watchRollout(ctx, r)
			}
			p, err := first(ctx, r)
			if err != nil {
				return err
			}
			u.standing(key, p)
			return nil
		}),
	}
	c.Flags().BoolVar(&follow, "follow", false, "show it until it has ended")
	return c
}

// watchRollout shows where a rollout stands until it has ended.
func (u *use) watchRollout(ctx context.Context, r *config.Rollout) error {
	p := u.follow(r.Key(), r.Changes(ctx))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ended(r, p, nil)
}

// firstWithin bounds the wait for where a rollout stands.
const firstWithin = 10 * time.Second

var errUnknown = errors.New("where the rollout stands cannot be found out")

// first is where a rollout stands.
func first(ctx context.Context, r *config.Rollout) (config.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, firstWithin)
	defer cancel()
	for p := range r.Changes(ctx) {
		return p, nil
	}
	return config.Progress{}, errors.Join(errUnknown, context.Cause(ctx))
}

// standing prints where a rollout stands.
func (u *use) standing(key string, p config.Progress) {
	if u.JSON {
		u.Emit(progressFacts(key, p))
		return
	}
	fact := func(what, text string) {
		if text != "" {
			u.Out.Print("  " + u.Out.Paint(screen.Dim, screen.Pad(what, 9)) + " " + cli.Visible(text))
		}
	}
	u.Out.Print(u.Out.Paint(screen.Bold, key) + "  rollout " + p.Rollout)
	state := string(p.State)
	if p.Cause != "" {
		state += ": " + p.Cause
	}
	fact("state", state)
	fact("step", fmt.Sprintf("%d of %d: %s", p.Step, p.Steps, stepText(p.This)))
	by := p.Author
	if p.Reason != "" {
		by += ": " + p.Reason
	}
	fact("by", by)
	fact("applied", fmt.Sprintf("%d of %d that report", len(p.Applied), p.Reporting))
	if u.Verbose {
		fact("", strings.Join(p.Applied, ", "))
	}
	fact("awaited", strings.Join(p.Awaited, ", "))
	fact("refused", strings.Join(p.Refused, ", "))
	fact("failed", strings.Join(p.Failed, ", "))
	if p.Soaking {
		fact("waiting", fmt.Sprintf("soak, %d s for one who begins to drive it now", int(math.Ceil(p.SoakLeft.Seconds()))))
	} else {
		fact("waiting", p.Waiting)
	}
}
