package queuecli

import (
	"context"
	"errors"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// partError is the error of what was done in part.
type partError struct {
	done string // as in: 12 jobs were deleted
	error
}

func (e partError) Unwrap() error { return e.error }

// explain gives an error its words and its exit code.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil || errors.Is(err, cli.ErrEnough) {
		return nil
	}
	text, code := cli.Said(ctx, c, err)
	text = ofCount.ReplaceAllString(text, "") // it is said in the words of the command
	if part, ok := errors.AsType[partError](err); ok {
		text += "; " + part.done
	}
	return exit.With(code, cli.Reword(text, err))
}

// ofCount is what the SDK says of what was done before.
var ofCount = regexp.MustCompile(` \(\d+ (?:jobs were deleted|were done) before\)`)

// part adds to an error what was done before.
func part(err error, n int, one, many string) error {
	if err == nil || n == 0 {
		return err
	}
	return partError{cli.Plural(n, one, many), err}
}
