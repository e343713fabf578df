package queuecli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// errEnough is the end of a command that goes on until it is interrupted.
var errEnough = errors.New("enough")

// partError is the error of what was done in part.
type partError struct {
	done string // as in: 12 jobs were deleted
	error
}

func (e partError) Unwrap() error { return e.error }

// explain gives an error its words and its exit code.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	text, code := strings.TrimPrefix(plainly(err.Error()), c.Name()+": "), exit.Code(err)
	if errors.Is(context.Cause(ctx), exit.ErrInterrupted) {
		text, code = exit.ErrInterrupted.Error(), exit.Interrupted
	}
	if part, ok := errors.AsType[partError](err); ok {
		text += "; " + part.done
	}
	return exit.With(code, explained{text, err})
}

// explained is an error in other words.
type explained struct {
	text string
	error
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.error }

// Names of packages in the texts of errors: of use to who writes programs.
var (
	ofQueue   = regexp.MustCompile(`(^|; )queue "((?:[^"\\]|\\.)*)": `)
	ofPackage = regexp.MustCompile(`(^|: )(?:queue|pool|codec|retry): `)
	ofCount   = regexp.MustCompile(` \(\d+ (?:jobs were deleted|were done) before\)`)
)

// plainly is the text of an error in one line without the names of packages.
func plainly(text string) string {
	text = ofCount.ReplaceAllString(text, "") // it is said in the words of the command
	text = ofQueue.ReplaceAllString(text, "$1$2: ")
	for ofPackage.MatchString(text) {
		text = ofPackage.ReplaceAllString(text, "$1")
	}
	return cli.Visible(strings.TrimSpace(text))
}

// part adds to an error what was done before.
func part(err error, n int, one, many string) error {
	if err == nil || n == 0 {
		return err
	}
	return partError{plural(n, one, many), err}
}

// plural is a number of things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
