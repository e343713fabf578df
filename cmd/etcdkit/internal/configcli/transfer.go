package configcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

// transferFlags are those of what changes many keys.
type transferFlags struct {
	changer
	dryRun bool
	prune  bool
}

func (t *transferFlags) register(c *cobra.Command) {
	t.changer.register(c)
	t.registerIgnore(c)
	c.Flags().BoolVar(&t.dryRun, "dry-run", false, "show what differs, and change nothing")
	c.Flags().BoolVar(&t.prune, "delete", false, "delete the keys that there are only here")
}

func (t *transferFlags) options() config.TransferOptions {
	return config.TransferOptions{Author: t.by(), Reason: t.reason, Prune: t.prune, IgnoreRollout: t.ignoreRollout}
}

// jsonTransfer is what came of a promote or an import.
type jsonTransfer struct {
	From         string           `json:"from,omitempty"` // environment
	To           string           `json:"to,omitempty"`
	Revision     int64            `json:"revision"` // as of which it was compared
	FromRevision int64            `json:"fromRevision,omitempty"`
	Equal        int              `json:"equal"` // how many keys are
	Differences  []jsonDifference `json:"differences"`
	DryRun       bool             `json:"dryRun,omitempty"`
	Written      []jsonWritten    `json:"written"`
	Unknown      []string         `json:"unknown,omitempty"` // keys of which it is not known if they were written
}

// jsonWritten is a version that was written.
type jsonWritten struct {
	Key      string             `json:"key"`
	Version  int64              `json:"version"`
	Revision int64              `json:"revision"`
	Kind     config.VersionKind `json:"kind"`
}

type jsonDifference struct {
	Kind config.DifferenceKind `json:"kind"` // missing, differs or surplus
	jsonDiff
	FromKey      string `json:"fromKey,omitempty"`
	Revision     int64  `json:"revision,omitempty"`
	FromRevision int64  `json:"fromRevision,omitempty"`
}

// settle shows what differs, asks, has it written, and tells what was. what names the one side in the question.
func (u *use) settle(ctx context.Context, f *transferFlags, c config.Comparison, facts jsonTransfer, question string,
	write func(o config.TransferOptions) (config.Transfer, error),
) error {
	facts.Revision, facts.FromRevision, facts.Equal, facts.DryRun = c.Revision, c.FromRevision, c.Equal, f.dryRun
	facts.Differences, facts.Written = []jsonDifference{}, []jsonWritten{}
	todo := 0
	for _, d := range c.Differences {
		if d.Kind != config.Surplus || f.prune {
			todo++
		}
		facts.Differences = append(facts.Differences, u.difference(d))
	}
	switch shown := u.Errs; {
	case f.dryRun && !u.JSON:
		shown = u.Out
		fallthrough
	case !f.dryRun && !f.yes && todo > 0:
		u.differences(shown, c.Differences, f.prune)
	}
	if todo > 0 && !f.dryRun {
		if err := u.agree(ctx, &f.changer, fmt.Sprintf(question, keys(todo))); err != nil {
			return err
		}
		t, err := write(f.options())
		for _, v := range t.Written {
			facts.Written = append(facts.Written, jsonWritten{v.Key, v.Number, v.Revision, v.Kind})
		}
		facts.Unknown = t.Unknown
		if err != nil {
			if len(facts.Written)+len(facts.Unknown) > 0 {
				u.tellTransfer(facts, todo)
			}
			return err
		}
	}
	u.tellTransfer(facts, todo)
	return nil
}

// tellTransfer tells what was written.
func (u *use) tellTransfer(t jsonTransfer, todo int) {
	if u.JSON {
		u.Emit(t)
		return
	}
	for _, v := range t.Written {
		u.Out.Printf("%s: version %d at revision %d, %s", v.Key, v.Version, v.Revision, v.Kind)
	}
	for _, key := range t.Unknown {
		u.Out.Printf("%s: it is not known whether it was written", key)
	}
	switch {
	case todo == 0:
		u.Out.Printf("Nothing to do: %s.", equal(t.Equal))
	case t.DryRun:
		u.Out.Printf("It would write %s; %s.", keys(todo), equal(t.Equal))
	default:
		u.Out.Printf("Wrote %d of %s; %s.", len(t.Written), keys(todo), equal(t.Equal))
	}
}

// counted is a number of things.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func keys(n int) string { return counted(n, "key") }

// equal says how many keys are.
func equal(n int) string {
	if n == 1 {
		return "1 key is equal"
	}
	return keys(n) + " are equal"
}

// difference is one for programs.
func (u *use) difference(d config.Difference) jsonDifference {
	return jsonDifference{
		Kind: d.Kind, jsonDiff: diffFacts(d.Key, 0, 0, u.between(d)), FromKey: d.FromKey, Revision: d.Revision, FromRevision: d.FromRevision,
	}
}

// between is what differs, with what is sealed opened if there are keys for it.
func (u *use) between(d config.Difference) config.Diff {
	is, want := d.Value, d.FromValue
	if plain, _, err := u.secrets.open(d.Key, is); err == nil {
		is = plain
	}
	if plain, _, err := u.secrets.open(d.FromKey, want); err == nil {
		want = plain
	}
	return config.DiffValues(is, want)
}

// differences shows what differs.
func (u *use) differences(s *screen.Screen, all []config.Difference, prune bool) {
	for _, d := range all {
		what := map[config.DifferenceKind]string{config.Missing: "is new", config.Differs: "differs", config.Surplus: "is here alone, and stays"}[d.Kind]
		if d.Kind == config.Surplus && prune {
			what = "is here alone, and is deleted"
		}
		s.Print(s.Paint(screen.Bold, d.Key) + " " + what)
		if d.Kind == config.Surplus {
			continue
		}
		printDiff(s, u.between(d))
	}
}

func newPromote(f *flags) *cobra.Command {
	var t transferFlags
	var which selection
	c := &cobra.Command{
		Use:   "promote FROM TO",
		Short: "Publish in one environment what another has",
		Long: `Publish in one environment what another has: all keys below TO become what they are below FROM. What differs is
shown, and somebody has to agree to it; what was agreed to is what is written. If a key changes meanwhile, on either
side, it is not overwritten.

Keys that are only in TO stay, unless --delete is given. Up to thirty keys are written in one transaction; more in
several, and what was written is told in any case. A sealed value is sealed for its key and not taken over: leave it
out by --except, and put it. With a keyring, sealed values that say the same are equal.

JSON: from, to, equal (how many keys), differences (kind missing, differs or surplus; key, fromKey, paths, lines),
written (versions, as in history), unknown (keys, if an answer was lost).`,
		Example: `  etcdkit config promote /config/dev /config/prod --dry-run
  etcdkit config --env /config promote dev prod --only mail --only database/pool`,
		Args: cli.Arguments(2, "FROM", "TO"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			if u.prefix(args[0]) == u.prefix(args[1]) {
				return exit.Usage(errSameSides)
			}
			return u.promote(ctx, u.prefix(args[0]), u.prefix(args[1]), which, &t)
		}),
	}
	t.register(c)
	c.Flags().StringArrayVar(&which.only, "only", nil, "this key alone, or all below it, named as below FROM and TO; may be repeated")
	c.Flags().StringArrayVar(&which.except, "except", nil, "all but this key, or those below it; may be repeated")
	return c
}

var errSameSides = errors.New("FROM and TO are the same")

// promote publishes below one prefix what there is below another.
func (u *use) promote(ctx context.Context, from, to string, which selection, f *transferFlags) error {
	there, err := u.storeOf(from)
	if err != nil {
		return err
	}
	here, err := u.storeOf(to)
	if err != nil {
		return err
	}
	c, err := here.Compare(ctx, there, "")
	if err != nil {
		return err
	}
	if c.Differences, err = which.of(ctx, c.Differences, here, there); err != nil {
		return err
	}
	u.unsealed(&c)
	return u.settle(ctx, f, c, jsonTransfer{From: from, To: to}, "Write %s below "+to+"?", func(o config.TransferOptions) (config.Transfer, error) {
		return here.Promote(ctx, there, c.Differences, o)
	})
}

// selection says which keys are meant, by their names or those of what they are below.
type selection struct{ only, except []string }

func means(name, key string) bool {
	name = strings.TrimSuffix(name, "/")
	return key == name || strings.HasPrefix(key, name+"/")
}

// of leaves only the differences that are meant. A name that means nothing is an error.
func (s selection) of(ctx context.Context, all []config.Difference, stores ...*config.Store) ([]config.Difference, error) {
	any := func(names []string, key string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return means(name, key) })
	}
	var keys []string
	for _, store := range stores {
		if len(s.only)+len(s.except) == 0 {
			return all, nil
		}
		l, err := store.Keys(ctx, "")
		if err != nil {
			return nil, err
		}
		for _, e := range l.Entries {
			keys = append(keys, strings.TrimPrefix(e.Key, store.Environment()+"/"))
		}
	}
	for _, name := range slices.Concat(s.only, s.except) {
		if !slices.ContainsFunc(keys, func(key string) bool { return means(name, key) }) {
			return nil, fmt.Errorf("%s: there is no such key on either side", name)
		}
	}
	return slices.DeleteFunc(all, func(d config.Difference) bool {
		return len(s.only) > 0 && !any(s.only, d.Name) || any(s.except, d.Name)
	}), nil
}

// unsealed leaves out the secrets that say the same: sealed for two keys, they differ in any case.
func (u *use) unsealed(c *config.Comparison) {
	c.Differences = slices.DeleteFunc(c.Differences, func(d config.Difference) bool {
		is, here, err := u.secrets.open(d.Key, d.Value)
		want, there, failed := u.secrets.open(d.FromKey, d.FromValue)
		same := here && there && err == nil && failed == nil && bytes.Equal(is, want)
		if same {
			c.Equal++
		}
		return same
	})
}
