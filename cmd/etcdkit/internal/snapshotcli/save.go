package snapshotcli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

func newSave(f *cli.Connection) *cobra.Command {
	var (
		o    snapshot.Options
		age  string
		keep time.Duration
	)
	c := &cobra.Command{
		Use:   "save DIR",
		Short: "Take a snapshot into a directory",
		Long: `Take a snapshot of one of the members into a directory, and print the name of its file: that of --name, the
time, and the revision, as in etcd-20260506T003000Z-r1207.db.

There is either the whole file, for its owner alone to read, or none. It is streamed to one side and checked
against the SHA-256 that the member sends, and against the revision that the cluster had before: a member that
lags is told of. With --verify it is restored as well, into an etcd of this program that serves nobody, and
every member of --endpoints is asked for its hash at the snapshot's revision. One that holds something else, or
none that could be compared, is an error, and no file is left. Only then it gets its name.

With --keep, older snapshots of the same --name in the directory are deleted after that, by the time in their
names. The newest stays however old it is, and so does what is damaged, or has another kind of name.

The disk needs room for the database, twice with --verify, which is looked at first. A run that was killed may
leave a directory .etcdkit-snapshot-…, which the next one removes.

JSON: file, taken, revision, size, sha256, storageVersion, verified; with --verify keys, compactRevision, hash,
and members: endpoint, equal, hash or error; with --keep deleted and spared (old, and damaged).`,
		Example: `  etcdkit snapshot save /var/backups/etcd --verify --keep 7d`,
		Args:    cli.Arguments(1, "DIR"),
	}
	c.Flags().BoolVar(&o.Verify, "verify", false, "restore it, and compare it with every member")
	c.Flags().StringVar(&age, "keep", "", "delete those that are older, as in 7d or 36h (default none)")
	c.Flags().StringVar(&o.Name, "name", snapshot.DefaultName, "what the file's name begins with")
	do := run(f, func(ctx context.Context, u use, args []string) error {
		o.Dir = args[0]
		return u.save(ctx, o, keep)
	})
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if age != "" {
			if keep, err = parseAge(age); err != nil {
				return exit.Usage(err)
			}
		}
		if err := snapshot.CheckName(o.Name); err != nil {
			return exit.Usage(err)
		}
		return do(c, args)
	}
	return c
}

// save takes a snapshot, and then deletes those that are older than keep, if that is not 0.
func (u use) save(ctx context.Context, o snapshot.Options, keep time.Duration) error {
	o.Progress = u.progress()
	s, err := snapshot.Save(ctx, u.Client(), o)
	u.Errs.Status("")
	if err != nil {
		return err
	}
	var pruned snapshot.Pruned
	if keep > 0 {
		if pruned, err = snapshot.Prune(ctx, o.Dir, o.Name, keep); err != nil {
			err = errors.Join(errors.New("it is saved; pruning has failed"), err)
		}
	}
	if u.JSON {
		line := shown{File: s.Path, Taken: stamp(s.Taken), Revision: s.Revision, Size: s.Size, SHA256: s.SHA256, Version: s.Version}
		line.add(s.Verification)
		for _, f := range pruned.Deleted {
			line.Deleted = append(line.Deleted, f.Path)
		}
		for _, f := range pruned.Spared {
			line.Spared = append(line.Spared, f.Path)
		}
		u.Emit(line)
		return err
	}
	u.Out.Print(cli.Visible(s.Path))
	if v := s.Verification; v != nil {
		u.Say("%s, %s", snapshot.Bytes(s.Size), told(v))
		u.doubts(v)
	} else {
		u.Say("%s at revision %d; not verified: --verify restores and compares it", snapshot.Bytes(s.Size), s.Revision)
	}
	for _, f := range pruned.Deleted {
		u.Say("deleted %s", cli.Visible(filepath.Base(f.Path)))
	}
	for _, f := range pruned.Spared {
		u.Say("kept %s: it is old, but damaged", cli.Visible(filepath.Base(f.Path)))
	}
	return err
}
