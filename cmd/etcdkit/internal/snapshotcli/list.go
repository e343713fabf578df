package snapshotcli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

func newList(f *cli.Connection) *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:     "ls DIR",
		Aliases: []string{"list"},
		Short:   "The snapshots in a directory",
		Long: `The snapshots that save has put into a directory, by their names, oldest first. With --check each is read, and
checked against the SHA-256 at its end; if one is damaged the exit code is 3.

JSON, one object a snapshot: file, taken, revision, size; with --check sum: ok, or what is wrong.`,
		Args: cli.Arguments(1, "DIR"),
	}
	c.Flags().BoolVar(&check, "check", false, "read them, and check their sums")
	c.RunE = runHere(f, func(ctx context.Context, u use, args []string) error { return u.list(ctx, args[0], check) })
	return c
}

// listed is a snapshot in JSON.
type listed struct {
	File     string `json:"file"`
	Taken    string `json:"taken"`
	Revision int64  `json:"revision"`
	Size     int64  `json:"size"`
	Sum      string `json:"sum,omitempty"`
}

// list prints the snapshots in a directory.
func (u use) list(ctx context.Context, dir string, check bool) error {
	all, err := snapshot.List(dir)
	if err != nil {
		return err
	}
	header := []string{"SNAPSHOT", "TAKEN", "AGE", "REVISION", "SIZE"}
	if check {
		header = append(header, "SUM")
	}
	var rows [][]string
	damaged := 0
	for _, f := range all {
		sum := ""
		if check {
			sum = "ok"
			_, err := snapshot.Sum(ctx, f.Path, nil)
			switch {
			case errors.Is(err, snapshot.ErrDamaged):
				sum = err.Error()
				damaged++
			case err != nil:
				return err
			}
		}
		if u.JSON {
			u.Emit(listed{f.Path, stamp(f.Taken), f.Revision, f.Size, sum})
			continue
		}
		row := []string{filepath.Base(f.Path), stamp(f.Taken), cli.Ago(f.Taken), fmt.Sprint(f.Revision), snapshot.Bytes(f.Size)}
		if check {
			row = append(row, sum)
		}
		rows = append(rows, row)
	}
	switch {
	case u.JSON:
	case len(rows) == 0:
		u.Say("no snapshots")
	default:
		cli.Table(u.Out, header, rows)
	}
	if damaged > 0 {
		return fmt.Errorf("%w: %d of %d", snapshot.ErrDamaged, damaged, len(all))
	}
	return nil
}
