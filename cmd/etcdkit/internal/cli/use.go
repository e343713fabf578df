package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/pool"
)

// closeWithin bounds the closing of connections that nobody uses any more.
const closeWithin = time.Second

// Use is one use of a command: what it is connected to, and where it reads and prints.
type Use struct {
	*Connection
	*Terminal
	Raw  io.Writer      // standard output, for bytes as they are
	Out  *screen.Screen // ... and for lines
	Pool *pool.Pool
}

// Open connects. Close the use.
func (f *Connection) Open(ctx context.Context, c *cobra.Command) (*Use, error) {
	u := &Use{Connection: f, Terminal: NewTerminal(c), Raw: c.OutOrStdout(), Out: screen.New(c.OutOrStdout())}
	var err error
	if u.Pool, err = f.Connect(ctx, u.Terminal); err != nil {
		return nil, err
	}
	return u, nil
}

// Close lets go of etcd.
func (u *Use) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = u.Pool.Close(ctx) // nothing is under way any more, and nobody is left to be told
}

// Client is the connection for requests, watches and leases.
func (u *Use) Client() *clientv3.Client { return u.Pool.Client() }

// Emit prints an object in a line.
func (u *Use) Emit(v any) {
	line, err := Line(v)
	if err != nil {
		u.Say("%v", err) // nothing that cannot be marshalled is given to it
		return
	}
	u.Out.Print(line)
}

// Explain gives an error its words and its exit code; nil and ErrEnough are none.
type Explain func(ctx context.Context, c *cobra.Command, err error) error

// Run makes a function of a Use what a command does. A nil explain is Plain.
func Run(f *Connection, explain Explain, fn func(ctx context.Context, u *Use, args []string) error) func(c *cobra.Command, args []string) error {
	if explain == nil {
		explain = Plain
	}
	return func(c *cobra.Command, args []string) error {
		if err := f.Check(); err != nil {
			return exit.Usage(err)
		}
		ctx, stop := exit.Interruptible(c.Context())
		defer stop()
		u, err := f.Open(ctx, c)
		if err == nil {
			err = errors.Join(fn(ctx, u, args), u.Out.Err())
			u.Close(ctx)
		}
		return explain(ctx, c, err)
	}
}
