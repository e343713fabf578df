package rbaccli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
	"github.com/etcdkit/etcdkit/retry"
)

// apply has the role exist, and allow what is needed.
func (g *grant) apply(ctx context.Context, u *cli.Use) error {
	added, excess, err := g.give(ctx, u.Client())
	if err != nil {
		return err
	}
	if u.JSON {
		s := g.shown()
		s.Applied, s.Added, s.GrantedTo, s.Excess = true, &added, g.grantTo, permissionsOf(excess)
		u.Emit(s)
	} else {
		g.explain(u)
		var rows [][]string
		for _, p := range g.permissions {
			rows = append(rows, []string{string(p.Access), rangeOf(p), p.Key, p.For})
		}
		cli.Table(u.Out, []string{"ACCESS", "RANGE", "KEY", "FOR"}, rows)
		u.Say("role %s: %s new", cli.Visible(g.role), cli.Plural(added, "permission is", "permissions are"))
		if g.grantTo != "" {
			u.Say("user %s has it", cli.Visible(g.grantTo))
		}
		for _, p := range excess {
			u.Say("the role has more than it needs for this: %s on %s %s", p.Access, rangeOf(p), cli.Visible(p.Key))
		}
	}
	status, err := u.Client().AuthStatus(ctx)
	if err != nil {
		return err
	}
	if !status.Enabled {
		u.Say("authentication is off: anybody may do anything until etcdctl auth enable")
	}
	return nil
}

// give returns how many permissions the role did not have, and which it has that nobody needs for this.
func (g *grant) give(ctx context.Context, client *clientv3.Client) (added int, excess []roles.Permission, err error) {
	if _, err := client.RoleAdd(ctx, g.role); err != nil && !is(err, rpctypes.ErrRoleAlreadyExist) {
		return 0, nil, fmt.Errorf("role %s: %w", g.role, err)
	}
	role, err := client.RoleGet(ctx, g.role)
	if err != nil {
		return 0, nil, fmt.Errorf("role %s: %w", g.role, err)
	}
	have := roles.FromEtcd(role.Perm)
	for _, p := range g.permissions {
		if roles.Allows(have, p) {
			continue
		}
		access := p.Access
		for _, h := range have {
			if h.Key == p.Key && h.End == p.End { // etcd replaces it
				access = roles.ReadWrite
			}
		}
		if _, err := client.RoleGrantPermission(ctx, g.role, p.Key, p.End, access.Type()); err != nil {
			return added, nil, fmt.Errorf("role %s: %w", g.role, err)
		}
		added++
	}
	if g.grantTo != "" {
		if _, err := client.UserGrantRole(ctx, g.grantTo, g.role); err != nil {
			return added, nil, fmt.Errorf("user %s: %w", g.grantTo, err)
		}
	}
	return added, roles.Excess(have, g.permissions), nil
}

func is(err, etcd error) bool { return errors.Is(retry.EtcdError(err), etcd) }

func rangeOf(p roles.Permission) string {
	switch {
	case p.Everything():
		return "everything"
	case p.Prefix():
		return "prefix"
	case p.End != "":
		return "from"
	}
	return "key"
}

// explain gives an error its words and its exit code.
func explain(ctx context.Context, c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	text, code := cli.Said(ctx, c, err)
	switch {
	case code == exit.Interrupted:
	case is(err, rpctypes.ErrPermissionDenied):
		text += ": granting takes a user with the role root"
	case is(err, rpctypes.ErrUserEmpty):
		text += ": authentication is on, and no user was given (--user)"
	case is(err, rpctypes.ErrUserNotFound):
		text += ": etcdctl user add adds one"
	}
	return exit.With(code, cli.Reword(text, err))
}
