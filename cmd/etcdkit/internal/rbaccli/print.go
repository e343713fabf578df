package rbaccli

import (
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// shown is a grant in JSON.
type shown struct {
	Recipe      string       `json:"recipe,omitempty"`
	Name        string       `json:"name,omitempty"`
	ID          string       `json:"id,omitempty"`
	Tenant      string       `json:"tenant,omitempty"`
	Role        string       `json:"role,omitempty"`
	Does        string       `json:"does"`
	Others      string       `json:"others"`
	Permissions []permission `json:"permissions"`
	Applied     bool         `json:"applied"`
	Added       *int         `json:"added,omitempty"`
	GrantedTo   string       `json:"grantedTo,omitempty"`
	Excess      []permission `json:"excess,omitempty"`
}

// permission is one in JSON.
type permission struct {
	Access   string `json:"access"`
	Key      string `json:"key"`
	Prefix   bool   `json:"prefix"`
	RangeEnd string `json:"rangeEnd,omitempty"`
	For      string `json:"for,omitempty"`
}

func permissionsOf(all []roles.Permission) []permission {
	some := make([]permission, 0, len(all))
	for _, p := range all {
		some = append(some, permission{string(p.Access), p.Key, p.Prefix(), p.End, p.For})
	}
	return some
}

func (g *grant) shown() shown {
	s := shown{
		Recipe: g.recipe, Name: g.name, ID: g.id, Tenant: g.tenant, Role: g.role, Does: g.does, Others: g.others, Permissions: permissionsOf(g.permissions),
	}
	if len(g.permissions) == 0 {
		s.Role = ""
	}
	return s
}

// print prints commands that grant it.
func (g *grant) print(u *cli.Use) {
	if u.JSON {
		u.Emit(g.shown())
		return
	}
	g.explain(u)
	for _, c := range g.commands() {
		u.Out.Print(c)
	}
	if len(g.permissions) > 0 {
		u.Out.Print("# " + command("etcdctl user grant-role USER", g.role))
	}
}

// explain prints comments: who has the role, and what that means.
func (g *grant) explain(u *cli.Use) {
	of := g.recipe
	if of == "" {
		of = "A user of " + g.tenant
	} else if g.name != "" {
		of += " " + g.name
	}
	for _, text := range []string{of + ": " + g.does + ".", "Who has the role " + g.others + "."} {
		if len(g.permissions) == 0 && text[0] == 'W' {
			text = "Any user " + g.others + "."
		}
		for _, line := range screen.Wrap(cli.Visible(text), u.Out.Width()-2) {
			u.Out.Print(u.Out.Paint(screen.Dim, "# "+line))
		}
	}
}
