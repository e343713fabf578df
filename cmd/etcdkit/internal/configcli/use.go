package configcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/config"
)

// flags are those of all commands.
type flags struct {
	cli.Connection
	environment string
	keyring     string
}

func (f *flags) register(set *pflag.FlagSet) {
	f.Register(set, "text")
	set.StringVar(&f.environment, "env", "", "prefix that all keys must be below, as /config/prod")
	set.StringVar(&f.keyring, "keyring", "", "file of the keys that seal and open secrets (default $ETCDKIT_KEYRING)")
}

// use is one use of the command: what it is connected to, and where it reads and prints.
type use struct {
	*cli.Use
	environment string // as in the flags
	store       *config.Store
	secrets     *secrets
}

// storeOf is a Store of an environment; empty for any key.
func (u *use) storeOf(environment string) (*config.Store, error) {
	return config.NewStore(u.Pool.Client(), &config.StoreOptions{Environment: strings.TrimSuffix(environment, "/")})
}

// named is the key, prefix or environment that is meant by a name: with --env, one that does not begin with a slash is below that.
func (u *use) named(name string) string {
	environment := strings.TrimSuffix(u.environment, "/")
	if environment == "" || strings.HasPrefix(name, "/") || name == environment || strings.HasPrefix(name, environment+"/") {
		return name
	}
	return environment + "/" + name
}

// prefix is a prefix as a Store takes it; a slash at its end may be left out.
func (u *use) prefix(name string) string { return strings.TrimSuffix(u.named(name), "/") }

var errNoPrefix = errors.New("PREFIX is missing: name it, or --env")

// below is the prefix in arguments that may be left out: then it is the environment.
func (u *use) below(args []string) (string, error) {
	switch {
	case len(args) > 0:
		return u.prefix(args[0]), nil
	case u.environment == "":
		return "", exit.Usage(errNoPrefix)
	}
	return "", nil
}

// Bounds of what is read: what is larger is refused in any case.
const (
	maxValue  = 2 << 20
	maxImport = 1 << 30
)

// read is what is in a file, or in standard input for "-".
func (u *use) read(name string, most int64) ([]byte, error) {
	in := u.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it was read only
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return text, nil
}

// held is what a key holds.
type held struct {
	config.Version        // the zero Version if the key never was
	exists         bool   //
	plain          []byte // what was sealed, opened if there are keys for it
	sealed         bool
}

// held reads a key.
func (u *use) held(ctx context.Context, key string) (held, error) {
	v, err := u.store.Get(ctx, key)
	switch {
	case errors.Is(err, config.ErrAbsent):
		return held{Version: v}, nil
	case err != nil:
		return held{}, err
	}
	plain, sealed, err := u.secrets.open(key, v.Value)
	return held{Version: v, exists: true, plain: plain, sealed: sealed}, err
}

// expect is what a change of it is made on, as a Store takes it.
func (h held) expect() int64 {
	if !h.exists {
		return config.Absent
	}
	return h.Revision
}

// changer is the flags of what changes a key.
type changer struct {
	author, reason string
	yes            bool
	ignoreRollout  bool
}

func (c *changer) register(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringVar(&c.author, "author", "", "who makes the change (default user@host)")
	set.StringVar(&c.reason, "reason", "", "why")
	set.BoolVarP(&c.yes, "yes", "y", false, "do it without asking")
}

func (c *changer) registerIgnore(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.ignoreRollout, "ignore-rollout", false, "do it though a rollout is under way, which is taken back by that")
}

// options are those of a Store.
func (c *changer) options(expect int64) config.PublishOptions {
	return config.PublishOptions{Author: c.by(), Reason: c.reason, Expect: expect, IgnoreRollout: c.ignoreRollout}
}

// by is who makes a change.
func (c *changer) by() string {
	if c.author != "" {
		return c.author
	}
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		name = "unknown"
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// agree returns nil if a change may be made.
func (u *use) agree(ctx context.Context, c *changer, question string) error {
	if c.yes {
		return nil
	}
	return u.Confirm(ctx, question)
}
