package roles_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// row is a row of docs/roles.md.
func row(r roles.Recipe, name string, p roles.Params, t *testing.T) string {
	t.Helper()
	perms, err := r.Needs(p)
	if err != nil {
		t.Fatal(err)
	}
	var cells []string
	for _, p := range perms {
		dots := ""
		if p.Prefix() {
			dots = "…"
		}
		cells = append(cells, fmt.Sprintf("%s `%s%s`", strings.ToUpper(string(p.Access)), p.Key, dots))
	}
	if len(cells) == 0 {
		cells = []string{"nothing"}
	}
	return "| `" + name + "` | " + strings.Join(cells, "; ") + " |\n"
}

func TestTheDocumentationHasWhatTheTableHas(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/roles.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.All() {
		p := roles.Params{Name: "<name>"}
		if r.Of == "" {
			p.Name = ""
		}
		rows := []string{row(r, r.Name, p, t)}
		if r.HasID {
			p.ID = "<id>"
			rows = append(rows, row(r, r.Name+" --id <id>", p, t))
		}
		if p = (roles.Params{Name: "<name>/"}); strings.HasPrefix(r.Of, "configuration") && !r.HasID {
			rows = append(rows, row(r, r.Name+" <name>/", p, t))
		}
		for _, row := range rows {
			if !strings.Contains(string(page), row) {
				t.Errorf("docs/roles.md has no\n%s", row)
			}
		}
	}
}
