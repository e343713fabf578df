package rbaccli

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// grant is a role, and what it is for.
type grant struct {
	recipe, name, id, tenant string

	does, others string
	permissions  []roles.Permission
	role         string
	grantTo      string
}

var (
	errTenant = errors.New("--tenant: a namespace ends in a slash: without one it would be the beginning of others, too")
	errText   = errors.New("it holds a control character or is not UTF-8")
	errRoot   = errors.New("--role root: that role is allowed everything as it is")
	errGrant  = errors.New("--grant-to grants nothing without --apply")
	errAdd    = errors.New("a session takes no permission, and so no role: any user has it")
)

// newGrant returns what a command line means.
func newGrant(o *options, args []string) (*grant, error) {
	g := &grant{tenant: o.tenant, role: o.role, grantTo: o.grantTo}
	for flag, text := range map[string]string{"tenant": o.tenant, "role": o.role, "grant-to": o.grantTo} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return nil, fmt.Errorf("--%s: %w", flag, errText)
		}
	}
	switch {
	case o.tenant != "" && !strings.HasSuffix(o.tenant, "/"):
		return nil, errTenant
	case o.role == "root":
		return nil, errRoot
	case o.grantTo != "" && !o.apply:
		return nil, errGrant
	case len(args) == 0 && (o.params.ID != "" || o.params.Prefix != ""):
		return nil, errors.New("--id and --prefix are for recipes")
	case len(args) == 0:
		g.does = "does anything within the namespace, and nothing elsewhere. It cannot snapshot, compact or see members' hashes"
		g.others = "can read, change and delete all keys of the namespace"
		g.permissions = []roles.Permission{roles.Tenant(o.tenant)}
		g.name = o.tenant
		g.defaultRole("tenant")
		return g, nil
	}
	r, err := roles.Find(args[0])
	if err != nil {
		return nil, err
	}
	p := o.params
	if len(args) > 1 {
		p.Name = args[1]
	}
	if g.permissions, err = r.Needs(p); err != nil {
		return nil, err
	}
	if len(g.permissions) == 0 && o.apply {
		return nil, errAdd
	}
	g.permissions = roles.Within(o.tenant, g.permissions)
	g.recipe, g.name, g.id, g.does, g.others = r.Name, p.Name, p.ID, r.Does, r.Others
	g.defaultRole(r.Name)
	return g, nil
}

// defaultRole names the role after what it is for, unless it has a name.
func (g *grant) defaultRole(what string) {
	if g.role != "" {
		return
	}
	g.role = what + ":" + g.name
	if g.recipe != "" {
		g.role = what + ":" + g.tenant + g.name
	}
	if g.id != "" {
		g.role += ":" + g.id
	}
}

// commands are those of etcdctl that grant the role.
func (g *grant) commands() []string {
	if len(g.permissions) == 0 {
		return nil
	}
	all := []string{command("etcdctl role add", g.role)}
	for _, p := range g.permissions {
		do := "etcdctl role grant-permission"
		if p.Prefix() {
			do += " --prefix=true"
		}
		all = append(all, command(do, g.role, string(p.Access), p.Key))
	}
	return all
}

// command is one for a shell.
func command(do string, args ...string) string {
	words := []string{do}
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			words = append(words, "--") // no flags come after it
			break
		}
	}
	for _, a := range args {
		words = append(words, quoted(a))
	}
	return strings.Join(words, " ")
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._:@%+=-", r))
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
