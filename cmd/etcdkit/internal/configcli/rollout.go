package configcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/config"
)

// rolloutFlags are those of what begins a rollout.
type rolloutFlags struct {
	changer
	source
	checkFlags
	steps  []config.Step
	detach bool
}

// checkFlags are those of what drives a rollout.
type checkFlags struct {
	check string
}

func (f *checkFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.check, "check", "", "shell command that is run while a step soaks, and at its end: if it fails, the rollout\nis taken back")
}

func newRollout(f *flags) *cobra.Command {
	var r rolloutFlags
	var every, within time.Duration
	c := &cobra.Command{
		Use:   "rollout KEY [VALUE | - | --file FILE] --step PART%[:SOAK[:MIN]] ...",
		Short: "Give instances a new value in steps, and take it back if they do not do well",
		Long: `Give the instances that read a key a new value in steps. Each step lets more of them have it, and waits until all of
these have applied it and have done well for the time of its soak. After the last step the value is published, for
all. If an instance refuses the value, reports that it fails or dies, or if --check fails, it is taken back from all
who have it.

A step is a part of the instances in percent (--step 10%:30s), or those with some labels (--label zone=eu:30s); the
steps are taken in the order in which they are written. What follows the part is how long its instances soak, and
how many must be there at least (--step 10%:30s:3).

The command drives the rollout and shows where it stands. Ctrl-C leaves it where it is; "rollout resume" drives it
on, from anywhere. It is seen and steered by the commands below, from anywhere too.

JSON, one object whenever something has changed: key, rollout (its ID), state (running, paused, promoted, aborted),
cause, step, steps, percent or labels, reporting, applied, awaited, refused, failed (instances), waiting, soaking.`,
		Example: `  etcdkit config rollout /config/prod/mail/limits --file limits.yaml --step 10%:30s --step 50%:1m --step 100%:1m
  etcdkit config rollout /config/prod/mail/limits '{"rate": 20}' --label canary=yes:5m --check ./error-rate.sh
  etcdkit config rollout resume /config/prod/mail/limits`,
		Args: cli.Arguments(1, "KEY", "VALUE"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case len(r.steps) == 0:
			return exit.Usage(errNoSteps)
		case every < 0 || within < 0:
			return exit.Usage(errNegative)
		}
		if err := r.source.check(args[1:]); err != nil {
			return err
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			value, err := u.value(&r.source, args[1:])
			if err != nil {
				return err
			}
			return u.rollout(ctx, u.named(args[0]), value, &r, config.Plan{CheckEvery: every, CheckWithin: within})
		})(c, args)
	}
	r.changer.register(c)
	r.source.register(c)
	r.checkFlags.register(c)
	c.Flags().DurationVar(&every, "check-every", 0, "how often it is run (default 10s)")
	c.Flags().DurationVar(&within, "check-within", 0, "how long it may take (default 10s)")
	c.Flags().Var(stepsFlag{&r.steps, percent, "percent"}, "step", "step for a part of the instances: 10%, 10%:30s, 10%:30s:3; may be repeated")
	c.Flags().Var(stepsFlag{&r.steps, labels, "labels"}, "label", "step for the instances with these labels: zone=eu,tier=web:30s; may be repeated")
	c.Flags().BoolVar(&r.detach, "detach", false, "begin it, and leave the driving to others")
	c.AddCommand(newRolloutResume(f), newRolloutStatus(f))
	c.AddCommand(newSteering(f)...)
	return c
}

var (
	errNoSteps  = errors.New("--step is missing, as in --step 10%:30s --step 100%:1m; to give all the value at once, put it")
	errNegative = errors.New("--check-every and --check-within must not be negative")
)

// rollout begins a rollout and drives it.
func (u *use) rollout(ctx context.Context, key string, value []byte, f *rolloutFlags, plan config.Plan) error {
	h, stored, err := u.prepare(ctx, key, value, &f.source)
	if err != nil {
		return err
	}
	if h.same(value, stored) {
		u.done(h.Version, false)
		return nil
	}
	if !f.yes {
		u.show(key, h, value, "the value to be rolled out")
		for i, s := range f.steps {
			u.Say("step %d: %s", i+1, stepText(s))
		}
		if err := u.Confirm(ctx, fmt.Sprintf("Roll it out in %s?", counted(len(f.steps), "step"))); err != nil {
			return err
		}
		plan.Expect = h.expect()
	}
	plan.Steps, plan.Author, plan.Reason = f.steps, f.by(), f.reason
	plan.Check = f.checkOf()
	r, err := u.store.Rollout(ctx, key, stored, plan)
	if err != nil {
		return err
	}
	if f.detach {
		u.steered(r, "begun", "nobody drives it yet: rollout resume does")
		return nil
	}
	return u.drive(ctx, r)
}

// checkOf is the check that a shell command makes; nil for none.
func (f *checkFlags) checkOf() func(ctx context.Context) error {
	if f.check == "" {
		return nil
	}
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", f.check)
		cmd.WaitDelay = time.Second // for what it has started and does not end with it
		said, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		if last := lastLine(said); last != "" {
			return fmt.Errorf("%w: %s", err, last)
		}
		return err
	}
}

// maxSaid is how much of a check's last words is kept.
const maxSaid = 200

// lastLine is the last line that is not empty.
func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	line := cli.Visible(strings.ToValidUTF8(string(text), " "))
	if len(line) > maxSaid {
		line = strings.ToValidUTF8(line[:maxSaid], "") + "..."
	}
	return line
}

func newRolloutResume(f *flags) *cobra.Command {
	var check checkFlags
	c := &cobra.Command{
		Use:   "resume KEY",
		Short: "Drive a rollout on that somebody has begun",
		Long: `Drive a rollout on that somebody has begun, and show where it stands. Any number may drive it at once. One that is
paused waits to be continued.

JSON: as that of rollout.`,
		Args: cli.Arguments(1, "KEY"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			r, err := u.store.Resume(ctx, u.named(args[0]), check.checkOf())
			if err != nil {
				return err
			}
			return u.drive(ctx, r)
		}),
	}
	check.register(c)
	return c
}

// newSteering returns what steers a rollout.
func newSteering(f *flags) []*cobra.Command {
	var why string
	steering := func(name, short, long, done string, do func(ctx context.Context, u *use, r *config.Rollout) (string, error)) *cobra.Command {
		return &cobra.Command{
			Use: name + " KEY", Short: short, Long: long + "\n\nJSON: key, rollout (its ID), done.", Args: cli.Arguments(1, "KEY"),
			RunE: run(f, func(ctx context.Context, u *use, args []string) error {
				r, err := u.store.Resume(ctx, u.named(args[0]), nil)
				if err != nil {
					return err
				}
				note, err := do(ctx, u, r)
				if err == nil {
					u.steered(r, done, note)
				}
				return err
			}),
		}
	}
	because := func() string {
		by := "by " + (&changer{}).by()
		if why == "" {
			return by
		}
		return why + ", " + by
	}
	pause := steering("pause", "Keep a rollout at its step", `Keep a rollout at its step, until it is continued. What instances report takes it back
all the same.`, "paused", func(ctx context.Context, _ *use, r *config.Rollout) (string, error) {
		return "", r.Pause(ctx, because())
	})
	resume := steering("continue", "Let a rollout go on that was paused", `Let a rollout go on that was paused. The soak of its step begins anew.`,
		"continued", func(ctx context.Context, _ *use, r *config.Rollout) (string, error) { return "", r.Continue(ctx) })
	promote := steering("promote", "Let a rollout go on to its next step now", `Let a rollout go on to its next step now, without waiting for the soak; after the last one its value is published, for
all. Instances that have refused the value are not passed over.`, "promoted",
		func(ctx context.Context, u *use, r *config.Rollout) (string, error) {
			if err := r.Promote(ctx); err != nil {
				return "", err
			}
			on, err := u.store.Resume(ctx, r.Key(), nil)
			if err != nil || on.ID() != r.ID() {
				return "its value is published for all", nil //nolint:nilerr // it is not under way any more
			}
			p, err := first(ctx, on)
			return fmt.Sprintf("it goes on with step %d of %d", p.Step, p.Steps), err
		})
	abort := steering("abort", "Take a rollout back", `Take a rollout back: its instances return to the value of the key.`, "aborted",
		func(ctx context.Context, _ *use, r *config.Rollout) (string, error) {
			return "", r.Abort(ctx, because())
		})
	for _, c := range []*cobra.Command{pause, abort} {
		c.Flags().StringVar(&why, "reason", "", "why")
	}
	return []*cobra.Command{pause, resume, promote, abort}
}

// steered tells that something was done to a rollout.
func (u *use) steered(r *config.Rollout, done, note string) {
	if u.JSON {
		u.Emit(struct {
			Key     string `json:"key"`
			Rollout string `json:"rollout"`
			Done    string `json:"done"` // begun, paused, continued, promoted or aborted
		}{r.Key(), r.ID(), done})
		return
	}
	text := fmt.Sprintf("%s: rollout %s %s", r.Key(), r.ID(), done)
	if note != "" {
		text += "; " + note
	}
	u.Out.Print(text)
}
