package configcli

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/retry"
)

// explain says what to do about an error, where something can be done, and gives it its exit code.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil || errors.Is(err, cli.ErrEnough) {
		return nil
	}
	text, hint, code := strings.TrimPrefix(plainly(err.Error()), c.Name()+": "), "", exit.Code(err)
	root := c.Root().Name() + " config"
	written := ""
	switch {
	case c.Flags().Lookup("author") == nil || errors.As(err, new(cli.ConnectError)): // it writes nothing, or could not yet
	case c.Name() == "rollout":
		written = "it may have begun: see " + root + " rollout status"
	default:
		written = "it may have been written: see " + root + " history"
	}
	switch {
	case errors.Is(context.Cause(ctx), exit.ErrInterrupted):
		text, code = exit.ErrInterrupted.Error(), exit.Interrupted
		if detached, ok := errors.AsType[detachedError](err); ok {
			hint = detached.Error()
		} else if retry.Ambiguous(err) {
			hint = written
		}
	case errors.Is(err, config.ErrRollout):
		hint = "see " + root + " rollout status; --ignore-rollout takes it back"
		if c.Flags().Lookup("ignore-rollout") == nil {
			hint = "see " + root + " rollout status"
		}
	case errors.Is(err, rpctypes.ErrFutureRev):
		text, _, _ = strings.Cut(text, ": read: etcdserver")
	case errors.Is(err, config.ErrAborted):
		code = exit.TakenBack
	case errors.Is(err, config.ErrConflict):
		code, hint = exit.Conflict, "it was not overwritten; look at it and do it again"
	case retry.Ambiguous(err):
		hint = written
	}
	if hint != "" {
		text += "; " + hint
	}
	if kept, ok := errors.AsType[keptError](err); ok {
		text += "; the text is kept in " + kept.path
	}
	return exit.With(code, cli.Reword(text, err))
}

// ofCodec is the name of a codec in the texts of errors: what is wrong with a document is said after it.
var ofCodec = regexp.MustCompile(`(^|: )decode [^:]*: `)

// plainly is the text of an error in one line, for who writes documents and not programs.
func plainly(text string) string { return cli.Plainly(ofCodec.ReplaceAllString(text, "$1")) }
