package configcli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/retry"
)

var errOneOf = errors.New("--version, --rev and --at: only one of them can be meant")

func newGet(f *flags) *cobra.Command {
	var version, revision int64
	var at string
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the value of a key, as it is or as it was",
		Long: `Print the value of a key, as it is or as it was. Standard output gets the value and nothing else; with -v, standard
error tells which version it is.

An older value is found by its version, from the key's history; by a time, from the same, going by the clocks of
those who wrote; or by a revision of etcd, which etcd has only until it is compacted.

JSON: key, version, revision, kind, author, reason, time, size, sealed, and value or valueBase64.`,
		Example: `  etcdkit config get /config/prod/mail/limits
  etcdkit config get /config/prod/mail/limits --version 3
  etcdkit config get /config/prod/mail/limits --at 3h`,
		Args: cli.Arguments(1, "KEY"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		given := 0
		for _, name := range []string{"version", "rev", "at"} {
			if c.Flags().Changed(name) {
				given++
			}
		}
		when, err := time.Time{}, error(nil)
		if at != "" {
			when, err = parseTime(at)
		}
		switch {
		case given > 1:
			err = errOneOf
		case c.Flags().Changed("version") && version < 1:
			err = fmt.Errorf("--version %d: versions begin with 1", version)
		case c.Flags().Changed("rev") && revision < 1:
			err = fmt.Errorf("--rev %d: revisions begin with 1", revision)
		}
		if err != nil {
			return exit.Usage(err)
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			return u.get(ctx, u.named(args[0]), version, revision, when)
		})(c, args)
	}
	c.Flags().Int64Var(&version, "version", 0, "that version of its history")
	c.Flags().Int64Var(&revision, "rev", 0, "as of that revision of etcd")
	c.Flags().StringVar(&at, "at", "", "as of that time: 2026-05-17T14:30:00Z, \"2026-05-17 14:30\", 90m or 3d ago")
	return c
}

// get prints one version of a key.
func (u *use) get(ctx context.Context, key string, version, revision int64, at time.Time) error {
	v, err := u.find(ctx, key, version, revision, at)
	if err != nil {
		return err
	}
	switch {
	case v.Omitted || v.Kind == config.Malformed:
		return fmt.Errorf("%s: the value of version %d was not kept", key, v.Number)
	case v.Gone():
		return fmt.Errorf("%s: did not exist as of %s", key, described(v))
	}
	plain, sealed, err := u.secrets.open(key, v.Value)
	if err != nil {
		return err
	}
	if u.JSON {
		u.Emit(struct {
			jsonVersion
			Sealed bool `json:"sealed,omitempty"` // in etcd
			cli.Value
		}{versionFacts(v), sealed, cli.ValueOf(plain)})
		return nil
	}
	if u.Verbose {
		u.Say("%s: %s", key, described(v))
	}
	if u.Out.Moving() { // a terminal
		if !utf8.Valid(plain) {
			return fmt.Errorf("%s: %d bytes that are no text: redirect them, or use -o json", key, len(plain))
		}
		if len(plain) > 0 && plain[len(plain)-1] != '\n' {
			plain = append(slices.Clip(plain), '\n')
		}
	}
	_, err = u.Raw.Write(plain)
	return err
}

// find reads a version of a key. All zero is what the key holds.
func (u *use) find(ctx context.Context, key string, version, revision int64, at time.Time) (config.Version, error) {
	switch {
	case version > 0:
		return u.store.Version(ctx, key, version)
	case !at.IsZero():
		return u.store.VersionAt(ctx, key, at)
	case revision > 0:
		return u.asOf(ctx, key, revision)
	}
	v, err := u.store.Get(ctx, key)
	if errors.Is(err, config.ErrAbsent) && v.Number > 0 {
		return v, fmt.Errorf("%s: %w: %s", key, config.ErrAbsent, described(v))
	}
	return v, err
}

// asOf is what a key held as of a revision of etcd. Which version that was is known if the history has it.
func (u *use) asOf(ctx context.Context, key string, revision int64) (config.Version, error) {
	resp, err := retry.Value(ctx, retry.Policy{}, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return u.Pool.Client().Get(ctx, key, clientv3.WithRev(revision))
	})
	if err != nil {
		if _, known := u.store.At(ctx, key, revision); known != nil { // which says what can be read instead
			err = known
		}
		return config.Version{}, err
	}
	if len(resp.Kvs) == 0 {
		return config.Version{}, fmt.Errorf("%s: %w as of revision %d", key, config.ErrAbsent, revision)
	}
	kv := resp.Kvs[0]
	v := config.Version{Key: key, Revision: kv.ModRevision, Value: kv.Value}
	versions, err := u.store.History(ctx, key, 0)
	if err != nil {
		return v, err
	}
	for _, known := range versions {
		if known.Revision == kv.ModRevision && known.Kind != config.TakenBack {
			known.Value = kv.Value
			return known, nil
		}
	}
	return v, nil
}
