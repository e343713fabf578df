package configcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
)

// source is where the value of a command comes from.
type source struct {
	file  string
	force bool
	seal  bool
}

func (s *source) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.file, "file", "f", "", "file that holds the value; - is standard input")
	cmd.Flags().BoolVar(&s.force, "force", false, "take a value that does not parse though what it replaces does")
	cmd.Flags().BoolVar(&s.seal, "seal", false, "seal the value, also if what it replaces is not sealed")
}

var (
	errNoValue   = errors.New("a value is missing: name it, or -, or --file")
	errTwoValues = errors.New("a value and --file: only one of them can be meant")
)

// check returns an error of usage. args are those after the key.
func (s *source) check(args []string) error {
	switch {
	case len(args) == 0 && s.file == "":
		return exit.Usage(errNoValue)
	case len(args) > 0 && s.file != "":
		return exit.Usage(errTwoValues)
	}
	return nil
}

// value reads the value.
func (u *use) value(s *source, args []string) ([]byte, error) {
	switch {
	case s.file != "":
		return u.read(s.file, maxValue)
	case args[0] == "-":
		return u.read("-", maxValue)
	}
	return []byte(args[0]), nil
}

func newPut(f *flags) *cobra.Command {
	var by changer
	var from source
	var expect string
	c := &cobra.Command{
		Use:   "put KEY [VALUE | - | --file FILE]",
		Short: "Publish a value",
		Long: `Publish a value. If the key has one, what would change is shown, and somebody has to agree; what was agreed to is
what is written: if the key changes meanwhile, nothing is.

A value that begins with - comes after --, or from a file.

A document (JSON, YAML or TOML) is not replaced by what is none of the same format, unless --force is given. A value
that is there already is not written again.

What is sealed stays sealed, for which the keyring is needed. A value that is not yet is sealed by --seal, or if
--keyring is given.

JSON: changed, and the version as in history.`,
		Example: `  etcdkit config put /config/prod/mail/limits '{"rate": 20}' --reason "black friday"
  etcdkit config put /config/prod/mail/limits --file limits.yaml --yes
  generate | etcdkit config put /config/prod/mail/limits - --yes --expect 1042`,
		Args: cli.Arguments(1, "KEY", "VALUE"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := from.check(args[1:]); err != nil {
			return err
		}
		expected, err := parseExpect(expect)
		if err != nil {
			return exit.Usage(err)
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			value, err := u.value(&from, args[1:])
			if err != nil {
				return err
			}
			return u.put(ctx, u.named(args[0]), value, expected, &from, &by)
		})(c, args)
	}
	by.register(c)
	by.registerIgnore(c)
	from.register(c)
	c.Flags().StringVar(&expect, "expect", "", "only if the key is at that revision, or absent")
	return c
}

// parseExpect reads --expect: a revision, or absent.
func parseExpect(text string) (int64, error) {
	switch text {
	case "":
		return 0, nil
	case "absent":
		return config.Absent, nil
	}
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || revision < 1 {
		return 0, fmt.Errorf("--expect %s: it must be a revision, or absent", text)
	}
	return revision, nil
}

// put publishes a value.
func (u *use) put(ctx context.Context, key string, value []byte, expected int64, from *source, by *changer) error {
	h, stored, err := u.prepare(ctx, key, value, from)
	if err != nil {
		return err
	}
	if expected == 0 && !by.yes {
		expected = h.expect() // what somebody is shown
	}
	if h.exists && !h.same(value, stored) && !by.yes {
		u.show(key, h, value, "the value to be put")
		if err := u.Confirm(ctx, "Overwrite "+key+"?"); err != nil {
			return err
		}
	}
	if h.same(value, stored) {
		stored = h.Value // what is sealed differs each time
	}
	v, err := u.store.Publish(ctx, key, stored, by.options(expected))
	if err != nil {
		return err
	}
	u.done(v, !h.exists || v.Revision != h.Revision)
	return nil
}

// prepare reads what a key holds and checks what is to come in its place. stored is what is to be in etcd.
func (u *use) prepare(ctx context.Context, key string, value []byte, from *source) (h held, stored []byte, err error) {
	if h, err = u.held(ctx, key); err != nil {
		return h, nil, err
	}
	if h.exists && !from.force {
		if err := stillParses(key, h.plain, value); err != nil {
			return h, nil, err
		}
	}
	stored, err = u.secrets.seal(key, value, h.sealed, from)
	return h, stored, err
}

// same reports whether a value is what the key holds, in the form that it is to have.
func (h held) same(value, stored []byte) bool {
	was, _ := codec.KeyID(h.Value)
	is, _ := codec.KeyID(stored)
	return h.exists && bytes.Equal(h.plain, value) && h.sealed == codec.IsSealed(stored) && was == is
}

// show shows what would come in the place of what a key holds.
func (u *use) show(key string, h held, value []byte, what string) {
	u.Say("--- %s, %s", key, described(h.Version))
	u.Say("+++ %s", what)
	d := config.DiffValues(h.plain, value)
	if d.Same {
		u.Say("(the same, sealed or opened)")
	}
	printDiff(u.Errs, d)
}

// done tells what came of a change of a key.
func (u *use) done(v config.Version, changed bool) {
	switch {
	case u.JSON:
		u.Emit(jsonChange{versionFacts(v), changed})
	case !changed:
		u.Out.Printf("%s: unchanged, version %d at revision %d", v.Key, v.Number, v.Revision)
	default:
		u.Out.Printf("%s: version %d at revision %d, %s", v.Key, v.Number, v.Revision, v.Kind)
	}
}
