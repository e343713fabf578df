package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// needs is what the application is to be allowed, as it was declared.
type needs struct {
	declared bool
	perms    []roles.Permission // For is how it was declared
}

// declare takes recipes, as RECIPE=NAME, and prefixes of keys.
func declare(recipes, keys []string) (n needs, err error) {
	for _, text := range recipes {
		kind, name, _ := strings.Cut(text, "=")
		recipe, err := roles.Find(kind)
		if err != nil {
			return n, fmt.Errorf("--recipe %s: %w", text, err)
		}
		perms, err := recipe.Needs(roles.Params{Name: name})
		if err != nil {
			return n, fmt.Errorf("--recipe %s: %w", text, err)
		}
		for _, p := range perms {
			p.For = strings.TrimSpace(kind + " " + name)
			n.perms = append(n.perms, p)
		}
	}
	for _, prefix := range keys {
		if prefix == "" {
			return n, errors.New("--keys: a prefix is needed: nobody needs all keys")
		}
		n.perms = append(n.perms, roles.Permission{Access: roles.ReadWrite, Key: prefix, End: clientv3.GetPrefixRangeEnd(prefix), For: "keys " + prefix})
	}
	n.declared = len(recipes)+len(keys) > 0
	return n, nil
}

// halves are the permission's parts: to read, and to write.
func halves(p roles.Permission) (all []roles.Permission) {
	for _, a := range []roles.Access{roles.Read, roles.Write} {
		if p.Access == a || p.Access == roles.ReadWrite {
			half := p
			half.Access = a
			all = append(all, half)
		}
	}
	return all
}

// missing are the permissions that are needed, and not had.
func (n needs) missing(have []roles.Permission) (all []roles.Permission) {
	for _, want := range n.perms {
		all = append(all, lacking(have, want)...)
	}
	return all
}

// tooMuch are those that are had, and reach beyond what is needed.
func (n needs) tooMuch(have []roles.Permission) (all []roles.Permission) {
	for _, one := range have {
		all = append(all, lacking(n.perms, one)...)
	}
	return all
}

// lacking is the permission, or that half of it, which others do not allow.
func lacking(have []roles.Permission, want roles.Permission) []roles.Permission {
	lacks := slices.DeleteFunc(halves(want), func(half roles.Permission) bool { return roles.Allows(have, half) })
	if len(lacks) == 2 {
		return []roles.Permission{want}
	}
	return lacks
}

// inWords is a permission as people say it.
func inWords(p roles.Permission) string {
	does := map[roles.Access]string{roles.Read: "read", roles.Write: "write", roles.ReadWrite: "read and write"}[p.Access]
	switch {
	case p.Everything():
		return does + " every key there is"
	case p.End == "":
		return does + " " + quoted(p.Key)
	case p.Prefix():
		return does + " what begins with " + quoted(p.Key)
	case p.End == "\x00":
		return does + " everything from " + quoted(p.Key) + " on"
	}
	return does + " from " + quoted(p.Key) + " to " + quoted(p.End)
}

// quoted is a key as it can be shown.
func quoted(key string) string { return cli.Visible(fmt.Sprintf("%q", key)) }

// revoke is the command that takes a permission from a role.
func revoke(role string, p roles.Permission) string {
	text := "etcdctl role revoke-permission " + cli.Visible(role) + " "
	switch {
	case p.Everything():
		return text + `"" --prefix`
	case p.End == "":
		return text + quoted(p.Key)
	case p.Prefix():
		return text + quoted(p.Key) + " --prefix"
	case p.End == "\x00":
		return text + quoted(p.Key) + " --from-key"
	}
	return text + quoted(p.Key) + " " + quoted(p.End)
}
