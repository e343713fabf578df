package configcli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

func newWatch(f *flags) *cobra.Command {
	var from int64
	var most int
	c := &cobra.Command{
		Use:   "watch KEY | PREFIX/",
		Short: "Print each change of a key, or of all below a prefix",
		Long: `Print each change of a key, or of all below a prefix, which is a name with a slash at its end: from now on, or from
a revision of etcd that is not compacted yet. It goes on until Ctrl-C, or until there were as many as -n says.

Of documents those places are shown that have changed; of other values, the lines.

JSON, one object a change: kind (created, changed, removed), key, revision, writes (since the key was created),
value or valueBase64.`,
		Example: `  etcdkit config watch /config/prod/
  etcdkit config watch /config/prod/mail/limits --from 1042 -o json`,
		Args: cli.Arguments(1, "KEY"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case c.Flags().Changed("from") && from < 1:
			return exit.Usage(fmt.Errorf("--from %d: revisions begin with 1", from))
		case most < 0:
			return exit.Usage(fmt.Errorf("-n %d: it must not be negative", most))
		}
		return run(f, func(ctx context.Context, u *use, args []string) error {
			err := u.watch(ctx, args[0], from, most)
			if errors.Is(context.Cause(ctx), exit.ErrInterrupted) {
				return cli.ErrEnough
			}
			return err
		})(c, args)
	}
	c.Flags().Int64Var(&from, "from", 0, "from that revision of etcd on")
	c.Flags().IntVarP(&most, "number", "n", 0, "how many changes; 0 until Ctrl-C")
	return c
}

// watch prints changes.
func (u *use) watch(ctx context.Context, name string, from int64, most int) error {
	prefix, all := strings.CutSuffix(u.named(name), "/")
	known, next, err := u.before(ctx, prefix, all, from)
	if err != nil {
		return err
	}
	if u.Errs.Moving() {
		u.Say("Changes from revision %d on. Ctrl-C ends it.", next)
	}
	edits := u.edits
	if all {
		edits = u.store.Watch
	}
	printed := 0
	for e, err := range edits(ctx, prefix, next) {
		if err != nil {
			return err
		}
		if plain, _, err := u.secrets.open(e.Key, e.Value); err == nil {
			e.Value = plain
		}
		u.change(e, known[e.Key])
		known[e.Key] = e.Value
		if printed++; printed == most || u.Out.Err() != nil {
			break
		}
	}
	return nil
}

// before reads what there was before the first change, and which revision that is to be. What was compacted is not known.
func (u *use) before(ctx context.Context, prefix string, all bool, from int64) (known map[string][]byte, next int64, err error) {
	known = map[string][]byte{}
	note := func(key string, value []byte) {
		if plain, _, err := u.secrets.open(key, value); err == nil {
			value = plain
		}
		known[key] = value
	}
	if from == 1 {
		return known, from, nil
	}
	at := max(0, from-1)
	if all {
		l, err := u.store.At(ctx, prefix, at)
		switch _, gone := errors.AsType[*config.CompactedError](err); {
		case gone && from > 0:
			return known, from, nil
		case err != nil:
			return nil, 0, err
		}
		for _, e := range l.Entries {
			note(e.Key, e.Value)
		}
		return known, l.Revision + 1, nil
	}
	resp, err := u.Pool.Client().Get(ctx, prefix, clientv3.WithRev(at))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted) && from > 0:
		return known, from, nil
	case errors.Is(err, rpctypes.ErrFutureRev):
		return known, from, nil // it is waited for
	case err != nil:
		return nil, 0, err
	}
	for _, kv := range resp.Kvs {
		note(prefix, kv.Value)
	}
	if from > 0 {
		return known, from, nil
	}
	return known, resp.Header.GetRevision() + 1, nil
}

var errWatchEnded = errors.New("etcd has ended the watch")

// edits are the changes of one key, as Store.Watch has those below a prefix.
func (u *use) edits(ctx context.Context, key string, from int64) iter.Seq2[config.Edit, error] {
	return func(yield func(config.Edit, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for resp := range u.Pool.Client().Watch(ctx, key, clientv3.WithRev(from)) {
			err := resp.Err()
			if resp.CompactRevision > 0 {
				err = &config.CompactedError{Revision: from, Oldest: resp.CompactRevision}
			}
			if err != nil {
				yield(config.Edit{}, err)
				return
			}
			for _, ev := range resp.Events {
				e := config.Edit{Kind: config.KeyChanged, Key: key, Value: ev.Kv.Value, Revision: ev.Kv.ModRevision, Writes: ev.Kv.Version}
				switch {
				case ev.Type == clientv3.EventTypeDelete:
					e.Kind, e.Value = config.KeyRemoved, nil
				case ev.IsCreate():
					e.Kind = config.KeyCreated
				}
				if !yield(e, nil) {
					return
				}
			}
		}
		if ctx.Err() == nil {
			yield(config.Edit{}, errWatchEnded)
		}
	}
}

// change prints a change of what was there before.
func (u *use) change(e config.Edit, before []byte) {
	if u.JSON {
		u.Emit(struct {
			Kind     config.EditKind `json:"kind"`
			Key      string          `json:"key"`
			Revision int64           `json:"revision"`
			Writes   int64           `json:"writes,omitempty"`
			cli.Value
		}{e.Kind, e.Key, e.Revision, e.Writes, cli.ValueOf(e.Value)})
		return
	}
	u.Out.Print(u.Out.Paint(screen.Bold, e.Key) + "  " + string(e.Kind) + "  " +
		u.Out.Paint(screen.Dim, "revision "+strconv.FormatInt(e.Revision, 10)))
	d := config.DiffValues(before, e.Value)
	if d.Format == "" {
		printDiff(u.Out, d)
		return
	}
	for _, p := range d.Paths {
		switch {
		case p.Old == "":
			u.Out.Print(u.Out.Paint(screen.Green, "+"+p.Path+": "+p.New))
		case p.New == "":
			u.Out.Print(u.Out.Paint(screen.Red, "-"+p.Path+": "+p.Old))
		default:
			u.Out.Print(" " + p.Path + ": " + u.Out.Paint(screen.Red, p.Old) + " → " + u.Out.Paint(screen.Green, p.New))
		}
	}
}
