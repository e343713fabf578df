package configcli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

func newEdit(f *flags) *cobra.Command {
	var by changer
	var force, seal bool
	c := &cobra.Command{
		Use:   "edit KEY",
		Short: "Change a value in an editor",
		Long: `Change a value in an editor: $VISUAL, $EDITOR or vi. What is saved is published if the key has not changed
meanwhile; if nothing was changed, nothing is done. A text that was refused is kept, and it is said where.

The file is readable by you alone, and removed afterwards. A sealed value is opened for it and sealed again, if
there is a keyring for it.

JSON: changed, and the version as in history.`,
		Example: `  EDITOR=nano etcdkit config edit /config/prod/mail/limits --reason "black friday"`,
		Args:    cli.Arguments(1, "KEY"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error {
			return u.edit(ctx, u.named(args[0]), &source{force: force, seal: seal}, &by)
		}),
	}
	c.Flags().StringVar(&by.author, "author", "", "who makes the change (default user@host)")
	c.Flags().StringVar(&by.reason, "reason", "", "why")
	c.Flags().BoolVar(&force, "force", false, "take a value that does not parse though what it replaces does")
	c.Flags().BoolVar(&seal, "seal", false, "seal the value, also if it was not sealed")
	by.registerIgnore(c)
	return c
}

// edit has a value edited and publishes it.
func (u *use) edit(ctx context.Context, key string, from *source, by *changer) (err error) {
	h, err := u.held(ctx, key)
	if err != nil {
		return err
	}
	if h.sealed && u.secrets.ring == nil && !from.force {
		return fmt.Errorf("%s is sealed, and there is no keyring to open it: --keyring names one", key)
	}
	d, err := newDraft(key, h.plain)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if keep {
			err = keptError{err, d.path}
		} else if failed := d.remove(); err == nil {
			err = failed
		}
	}()
	if err := d.edit(u.Terminal); err != nil {
		return err
	}
	text, err := os.ReadFile(d.path)
	switch {
	case err != nil:
		return err
	case h.exists && untouched(h.plain, text), !h.exists && len(text) == 0:
		if h.exists {
			u.done(h.Version, false)
		} else {
			u.Say("%s: there is still none", key)
		}
		return nil
	}
	keep = true
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if h.exists && !from.force {
		if err := stillParses(key, h.plain, text); err != nil {
			return err
		}
	}
	stored, err := u.secrets.seal(key, text, h.sealed, from)
	if err != nil {
		return err
	}
	v, err := u.store.Publish(ctx, key, stored, by.options(h.expect()))
	if err != nil {
		return err
	}
	keep = false
	u.done(v, true)
	return nil
}

// untouched reports whether a text is what it was, but perhaps for the newline at the end that editors add.
func untouched(before, after []byte) bool {
	return bytes.Equal(before, after) || !bytes.HasSuffix(before, []byte("\n")) && bytes.Equal(before, bytes.TrimSuffix(after, []byte("\n")))
}

// keptError is an error of an edit whose text is not lost.
type keptError struct {
	error
	path string
}

func (e keptError) Unwrap() error { return e.error }

// draft is a text that is being edited, in a directory of its own, which only its owner can look into.
type draft struct{ dir, path string }

func newDraft(key string, text []byte) (draft, error) {
	dir, err := os.MkdirTemp("", "etcdkit-edit-")
	if err != nil {
		return draft{}, err
	}
	d := draft{dir, filepath.Join(dir, filepath.Base(key)+extension(key, text))}
	if err := os.WriteFile(d.path, text, 0o600); err != nil {
		return draft{}, errors.Join(err, d.remove())
	}
	return d, nil
}

// extension is what tells an editor the format of a text, if the key does not.
func extension(key string, text []byte) string {
	if filepath.Ext(key) != "" {
		return ""
	}
	for _, f := range documents {
		if document, err := f.parse(text); err == nil && structured(document) {
			return "." + f.name
		}
	}
	return ""
}

func (d draft) remove() error { return os.RemoveAll(d.dir) }

// edit runs the editor of whoever sits there.
func (d draft) edit(t *cli.Terminal) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	// The variable holds a command with its flags, as git has it.
	cmd := exec.Command("sh", "-c", editor+` "$1"`, editor, d.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.To, t.To
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor %q: %w; nothing was changed", editor, err)
	}
	return nil
}
