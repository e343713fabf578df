package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// ErrEnough is the end of a command that goes on until it is interrupted.
var ErrEnough = errors.New("enough")

// Plain gives an error its words and its exit code.
func Plain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil || errors.Is(err, ErrEnough) {
		return nil
	}
	text, code := Said(ctx, c, err)
	return exit.With(code, Reword(text, err))
}

// Said is what is said of an error in one line, and its exit code.
func Said(ctx context.Context, c *cobra.Command, err error) (text string, code int) {
	if errors.Is(context.Cause(ctx), exit.ErrInterrupted) {
		return exit.ErrInterrupted.Error(), exit.Interrupted
	}
	return strings.TrimPrefix(Plainly(err.Error()), c.Name()+": "), exit.Code(err)
}

// Reword returns an error in other words.
func Reword(text string, err error) error { return reworded{text, err} }

type reworded struct {
	text string
	error
}

func (e reworded) Error() string { return e.text }
func (e reworded) Unwrap() error { return e.error }

// Names of packages in the texts of errors: of use to who writes programs.
var (
	ofThing   = regexp.MustCompile(`(^|; )(?:config|queue|lock|election|registry|session) "((?:[^"\\]|\\.)*)": `)
	ofPackage = regexp.MustCompile(`(^|: )(?:batch|codec|config|election|fence|lock|pool|queue|registry|retry|session): `)
)

// Plainly is the text of an error in one line without the names of packages.
func Plainly(text string) string {
	text = ofThing.ReplaceAllString(text, "$1$2: ")
	for ofPackage.MatchString(text) {
		text = ofPackage.ReplaceAllString(text, "$1")
	}
	return Visible(strings.TrimSpace(text))
}

// Plural is a number of things.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
