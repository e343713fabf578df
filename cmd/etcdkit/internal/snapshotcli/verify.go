package snapshotcli

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

func newVerify(f *cli.Connection) *cobra.Command {
	var compare bool
	var scratch string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Restore a snapshot, and say what it holds",
		Long: `Check a snapshot against the SHA-256 at its end, restore it into an etcd of this program that serves nobody and
is removed afterwards, and say what it holds. The file stays as it is.

With --compare every member of --endpoints is asked for its hash at the snapshot's revision. That can be
answered as long as the cluster has not compacted the revision: right after the snapshot was taken, that is.

JSON: file, revision, size, storageVersion, verified, keys, compactRevision, hash, and members: endpoint, equal,
hash or error.`,
		Args: cli.Arguments(1, "FILE"),
	}
	c.Flags().BoolVar(&compare, "compare", false, "compare it with every member of the cluster")
	c.Flags().StringVar(&scratch, "scratch", "", "directory to restore it below (default that of the file)")
	do := func(ctx context.Context, u use, path string, client *clientv3.Client) error {
		if scratch == "" {
			scratch = filepath.Dir(path)
		}
		return u.verify(ctx, path, scratch, client)
	}
	here := runHere(f, func(ctx context.Context, u use, args []string) error { return do(ctx, u, args[0], nil) })
	connected := run(f, func(ctx context.Context, u use, args []string) error { return do(ctx, u, args[0], u.Client()) })
	c.RunE = func(c *cobra.Command, args []string) error {
		if compare {
			return connected(c, args)
		}
		return here(c, args)
	}
	return c
}

// verify verifies a file; a nil client compares it with nothing.
func (u use) verify(ctx context.Context, path, scratch string, client *clientv3.Client) error {
	v, err := snapshot.Verify(ctx, path, scratch, client, u.progress())
	u.Errs.Status("")
	if v == nil {
		return err
	}
	if u.JSON {
		line := shown{File: path, Size: v.Size}
		line.add(v)
		line.Verified = err == nil
		u.Emit(line)
		return err
	}
	u.Out.Print(told(v))
	u.doubts(v)
	return err
}
