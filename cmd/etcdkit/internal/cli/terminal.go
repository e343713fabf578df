package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

var (
	errDeclined = errors.New("nothing was changed")
	errNoAnswer = errors.New("there is no terminal to ask on")
)

// Terminal is where somebody may be asked, and told what is no result.
type Terminal struct {
	In   io.Reader
	Errs *screen.Screen
	To   io.Writer // what Errs prints to, for lines that do not end
}

// NewTerminal is the one that a command was given.
func NewTerminal(c *cobra.Command) *Terminal {
	return &Terminal{In: c.InOrStdin(), Errs: screen.New(c.ErrOrStderr()), To: c.ErrOrStderr()}
}

// Say tells something that is no result.
func (t *Terminal) Say(format string, args ...any) { t.Errs.Print(fmt.Sprintf(format, args...)) }

// file is the terminal that answers are read from, or nil if there is none.
func (t *Terminal) file() *os.File {
	if f, ok := t.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// Confirm returns nil if somebody says yes to a question.
func (t *Terminal) Confirm(ctx context.Context, question string) error {
	if t.file() == nil {
		return fmt.Errorf("%w, and nothing was changed: --yes does it without asking", errNoAnswer)
	}
	answer, err := t.Ask(ctx, question+" [y/N] ")
	switch {
	case err != nil:
		return err
	case strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"):
		return nil
	}
	return errDeclined
}

// Ask returns the line that is typed after a question.
func (t *Terminal) Ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(t.To, question)
	return t.answer(ctx, func() (string, error) {
		line, err := bufio.NewReaderSize(t.In, 1).ReadString('\n')
		if errors.Is(err, io.EOF) { // Ctrl-D is no
			fmt.Fprintln(t.To)
			err = nil
		}
		return strings.TrimSpace(line), err
	})
}

// Password asks for a password, which is not shown.
func (t *Terminal) Password(ctx context.Context, user string) (string, error) {
	f := t.file()
	if f == nil {
		return "", fmt.Errorf("user %q has no password, and %w: set ETCDCTL_PASSWORD", user, errNoAnswer)
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(t.To, "Password of %s: ", user)
	password, err := t.answer(ctx, func() (string, error) {
		p, err := term.ReadPassword(fd)
		return string(p), err
	})
	fmt.Fprintln(t.To)
	if ctx.Err() != nil {
		_ = term.Restore(fd, before) // the reading goes on, until the process ends
	}
	if err == nil && password == "" {
		return "", fmt.Errorf("user %q has no password", user)
	}
	return password, err
}

// answer waits for what read returns, or the end of ctx: a read of a terminal cannot be called off.
func (t *Terminal) answer(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	came := make(chan result, 1)
	go func() {
		text, err := read()
		came <- result{text, err}
	}()
	select {
	case r := <-came:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
