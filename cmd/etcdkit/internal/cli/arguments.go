package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

// Arguments takes positional arguments by their names; those from the one numbered required on may be left out.
func Arguments(required int, names ...string) cobra.PositionalArgs {
	return exit.Arguments(func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < required:
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	})
}
