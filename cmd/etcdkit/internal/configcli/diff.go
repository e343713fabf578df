package configcli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

func newDiff(f *flags) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff KEY [VERSION [VERSION]]",
		Short: "What differs between two versions of a key",
		Long: `What differs between two versions of a key. With one version, between it and what the key holds; without any, what
the last change has changed. If nothing differs, nothing is printed.

Sealed values are shown as such, unless there is a keyring for them.

JSON: key, a and b (the versions), same, format, paths (path, old, new) of documents, lines.`,
		Example: `  etcdkit config diff /config/prod/mail/limits
  etcdkit config diff /config/prod/mail/limits 3 5`,
		Args: cli.Arguments(1, "KEY", "VERSION", "VERSION"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		var numbers [2]int64
		for i, text := range args[1:] {
			n, err := parseVersion(text)
			if err != nil {
				return err
			}
			numbers[i] = n
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			return u.diff(ctx, u.named(args[0]), numbers[0], numbers[1])
		})(c, args)
	}
	return c
}

// parseVersion reads the number of a version.
func parseVersion(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, exit.Usage(fmt.Errorf("version %q: it must be a number from 1, as history has them", text))
	}
	return n, nil
}

// diff prints what differs between versions. For b, 0 is what the key holds, and for a the version before that.
func (u *use) diff(ctx context.Context, key string, a, b int64) error {
	versions, err := u.pair(ctx, key, a, b)
	if err != nil {
		return err
	}
	var plain [2][]byte
	for i, v := range versions {
		if v.Omitted || v.Kind == config.Malformed {
			return fmt.Errorf("%s: the value of version %d was not kept", key, v.Number)
		}
		if plain[i], _, err = u.secrets.open(key, v.Value); err != nil {
			return err
		}
	}
	d := config.DiffValues(plain[0], plain[1])
	if u.JSON {
		u.Emit(diffFacts(key, versions[0].Number, versions[1].Number, d))
		return nil
	}
	if d.Same {
		u.Say("%s: versions %d and %d are the same", key, versions[0].Number, versions[1].Number)
		return nil
	}
	for i, mark := range []string{"---", "+++"} {
		title := key + ", none before"
		if versions[i].Number > 0 {
			title = fmt.Sprintf("%s, %s", key, described(versions[i]))
		}
		u.Out.Print(u.Out.Paint(screen.Bold, mark+" "+title))
	}
	printDiff(u.Out, d)
	return nil
}

// pair reads two versions of a key.
func (u *use) pair(ctx context.Context, key string, a, b int64) (pair [2]config.Version, err error) {
	if b > 0 {
		pair[1], err = u.store.Version(ctx, key, b)
	} else {
		// The deletion of a key that is gone.
		pair[1], err = u.store.Get(ctx, key)
		if pair[1].Number > 0 {
			err = nil
		}
	}
	if err != nil {
		return pair, err
	}
	if a > 0 {
		pair[0], err = u.store.Version(ctx, key, a)
		return pair, err
	}
	versions, err := u.store.History(ctx, key, 0)
	if err != nil {
		return pair, err
	}
	for _, v := range versions {
		if v.Number < pair[1].Number && v.Kind != config.TakenBack && v.Kind != config.Malformed {
			pair[0] = v
			return pair, nil
		}
	}
	if pair[1].Number > 1 {
		return pair, fmt.Errorf("%s: the version before %d is not kept any more", key, pair[1].Number)
	}
	return pair, nil
}
