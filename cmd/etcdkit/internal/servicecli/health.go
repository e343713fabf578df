package servicecli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/child"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	// defaultHealthTimeout is longer than that of checks that open a connection: a command is a process.
	defaultHealthTimeout = 5 * time.Second

	// mostSaid is how much is kept of what a health command says.
	mostSaid = 4 << 10
)

// probe returns what runs a health command once, and tells when it comes to another result than before.
func probe(u *cli.Use, command string) func(ctx context.Context) error {
	before := errors.New("not run yet")
	return func(ctx context.Context) error {
		err := runProbe(ctx, command)
		switch {
		case errors.Is(ctx.Err(), context.Canceled): // by the end of all
			return err
		case err == nil && before != nil:
			u.Say("health command: passed")
		case err != nil && (before == nil || before.Error() != err.Error()):
			u.Say("health command: %v", err)
		}
		before = err
		return err
	}
}

// runProbe runs a health command once. When its time is up it is killed, with all that it has started.
func runProbe(ctx context.Context, command string) error {
	shell, err := child.Find("sh")
	if err != nil {
		return err
	}
	var says tail
	p, err := child.Start(child.Command{Path: shell, Args: []string{"sh", "-c", command}, Stdout: &says, Stderr: &says})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.Stop(0) })
	defer stop()
	switch s := p.Wait(); {
	case ctx.Err() != nil:
		return errors.New("its time was up")
	case s.Err != nil:
		return s.Err
	case s.Code != 0:
		return says.because(fmt.Sprintf("exit code %d", s.Code))
	}
	return nil
}

// tail is the last of what a command says. The process writes it, and it is read when that is over.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - mostSaid; over > 0 {
		t.Next(over)
	}
	return n, err
}

// because is an error with the last line.
func (t *tail) because(text string) error {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		text += ": " + cli.Visible(last)
	}
	return errors.New(text)
}

// teller tells on standard error what a registration logs.
type teller struct {
	u *cli.Use
}

func newTeller(u *cli.Use) *zap.Logger { return zap.New(teller{u}) }

// Enabled lets pass what is worth a line.
func (t teller) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With leaves out fields that are the same all the time.
func (t teller) With([]zapcore.Field) zapcore.Core { return t }

// Check has an entry written.
func (t teller) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if t.Enabled(e.Level) {
		return to.AddCore(e, t)
	}
	return to
}

// Write tells an entry, with what it is about.
func (t teller) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	parts := []string{e.Message}
	for _, name := range []string{"state", "by", "error"} {
		if v, ok := enc.Fields[name]; ok {
			parts = append(parts, fmt.Sprintf("%s: %v", name, v))
		}
	}
	t.u.Say("%s", cli.Plainly(strings.Join(parts, "; ")))
	return nil
}

// Sync does nothing: nothing is held back.
func (t teller) Sync() error { return nil }
