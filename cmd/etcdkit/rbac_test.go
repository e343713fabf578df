package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// Whoever has the role that rbac grants for a recipe can do all of it, and is never refused anything on the way; in a namespace, too.
func TestUnderTheRoleThatRBACGrantsARecipeLacksNothing(t *testing.T) {
	t.Parallel()
	w := newRBACWorld(t)
	seen := map[string]bool{}
	for _, tenant := range []string{"", "team-a/"} {
		user := func(i int) string { return fmt.Sprintf("u%d%s", i, tenant) }
		name := func(i int) string { return fmt.Sprintf("/x/y%d", i) }
		for i, e := range rbacExercises { // before they begin: each change of a role has all clients authenticate again
			seen[e.recipe] = true
			w.grant(user(i), e, name(i), tenant)
		}
		rbacEach(len(rbacExercises), func(i int) {
			e := rbacExercises[i]
			if err := w.exercise(e, user(i), name(i), tenant); err != nil {
				t.Errorf("%s in %q: %v", e.recipe, tenant, err)
			}
		})
	}
	for _, r := range roles.All() {
		if !seen[r.Name] {
			t.Errorf("%s is not exercised", r.Name)
		}
	}
}

// rbacLess is a role without a permission, or with less of it.
type rbacLess struct {
	rbacExercise
	user, name string
	lacks      roles.Permission
	leaves     roles.Access // "" for nothing
}

// Without any one of its permissions, or with half of it, something is refused: no role has more than it needs.
func TestARoleThatRBACGrantsIsTheLeast(t *testing.T) { // not beside the other one: both keep a machine busy
	w := newRBACWorld(t)
	var all []rbacLess
	for _, e := range rbacExercises {
		r, err := roles.Find(e.recipe)
		rbacMust(t, err)
		perms, err := r.Needs(e.params("x"))
		rbacMust(t, err)
		for i, p := range perms {
			lesser := []roles.Access{""}
			if p.Access == roles.ReadWrite {
				lesser = []roles.Access{roles.Read, roles.Write}
			}
			for _, leaves := range lesser {
				n := len(all)
				less := rbacLess{rbacExercise: e, user: fmt.Sprintf("u%d", n), name: fmt.Sprintf("/x/z%d", n), leaves: leaves}
				perms, err := r.Needs(e.params(less.name))
				rbacMust(t, err)
				less.lacks = perms[i]
				all = append(all, less)
			}
		}
	}
	for _, l := range all {
		w.grant(l.user, l.rbacExercise, l.name, "")
		_, err := w.root.RoleRevokePermission(t.Context(), l.user, l.lacks.Key, l.lacks.End)
		rbacMust(t, err)
		if l.leaves != "" {
			_, err := w.root.RoleGrantPermission(t.Context(), l.user, l.lacks.Key, l.lacks.End, l.leaves.Type())
			rbacMust(t, err)
		}
	}
	rbacEach(len(all), func(i int) {
		l := all[i]
		err := w.exercise(l.rbacExercise, l.user, l.name, "")
		if _, denied := errors.AsType[rbacDeniedError](err); !denied {
			t.Errorf("%s with %q instead of %s on %s: %v", l.recipe, l.leaves, l.lacks.Access, l.lacks.Key, err)
		}
	})
	t.Logf("%d roles, each with less than the least", len(all))
}

func TestABadCommandLineOfRBACIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := shellOn(t, "127.0.0.1:1") // nothing is sent
	s.kind = "rbac"
	for words, args := range map[string][]string{
		`unknown recipe "bogus": there is lock`:         {"bogus", "x"},
		`unknown recipe "queue": there is queue-push`:   {"queue", "x"},
		"RECIPE is missing":                             {},
		"NAME is missing":                               {"lock"},
		`unexpected argument "b"`:                       {"lock", "a", "b"},
		`lock name "" refused: it is empty`:             {"lock", ""},
		`queue name "a/" refused: it ends in a slash`:   {"queue-work", "a/"},
		`instance name "a/b" refused: it holds a slash`: {"registry-instance", "mail", "--id", "a/b"},
		"lock has no instances with IDs":                {"lock", "a", "--id", "b"},
		"config-reader has no prefix":                   {"config-reader", "a", "--prefix", "b"},
		"an instance follows one key":                   {"config-instance", "a/"},
		"--tenant: a namespace ends in a slash":         {"lock", "a", "--tenant", "b"},
		"--id and --prefix are for recipes":             {"--tenant", "a/", "--id", "b"},
		"--role root: that role is allowed everything":  {"lock", "a", "--role", "root"},
		"--grant-to grants nothing without --apply":     {"lock", "a", "--grant-to", "b"},
		"--role: it holds a control character":          {"lock", "a", "--role", "a\nb"},
		"a session takes no permission":                 {"session", "--apply"},
		"session has no name":                           {"session", "a"},
		"-o table: it must be text or json":             {"lock", "a", "-o", "table"},
		"unknown flag: --bogus":                         {"lock", "a", "--bogus"},
		"below etcdkit/config/ are the histories":       {"config-publisher", "etcdkit/config/a"},
	} {
		s.fails(2, words, args...)
	}
	s.fails(1, "no member answers: 127.0.0.1:1: ", "lock", "a", "--apply", "--dial-timeout", "300ms")
}

func TestRBACPrintsCommandsAndSaysWhatTheyMeanForOthers(t *testing.T) {
	t.Parallel()
	s := shellOn(t, "127.0.0.1:1") // nothing is asked
	s.kind = "rbac"
	s.prints([]string{"lock", "orders"}, "# lock orders: takes a lock", "can delete the place of anybody else",
		"etcdctl role add lock:orders\netcdctl role grant-permission --prefix=true lock:orders readwrite orders/\n# etcdctl user grant-role USER lock:orders\n")
	s.prints([]string{"registry-instance", "mail", "--id", "mail-1", "--role", "it's"},
		"etcdctl role add 'it'\\''s'\netcdctl role grant-permission 'it'\\''s' readwrite services/mail/mail-1\n")
	s.prints([]string{"--", "lock", "-x"}, "etcdctl role grant-permission --prefix=true -- lock:-x readwrite -x/\n")
	s.prints([]string{"queue-push", "mail", "--tenant", "team-a/"},
		" write team-a/etcdkit/queue/mail//line/jobs/\n", " readwrite team-a/etcdkit/queue/mail//pushed/\n")
	s.prints([]string{"--tenant", "team-a/"}, "etcdctl role grant-permission --prefix=true tenant:team-a/ readwrite team-a/\n")
	s.prints([]string{"session"}, "Any user can renew any lease")
	for _, args := range [][]string{{"queue-work", "mail"}, {"lock", "orders"}} {
		for line := range strings.Lines(s.ok(args...)) {
			if len(line) > 81 && strings.HasPrefix(line, "#") {
				t.Errorf("%d columns: %q", len(line), line)
			}
		}
	}
	o := s.object("config-instance", "a/b", "--id", "i")
	perms := o["permissions"].([]any)
	if o["recipe"] != "config-instance" || o["name"] != "a/b" || o["id"] != "i" || o["role"] != "config-instance:a/b:i" || o["applied"] != false || o["others"] == "" || len(perms) != 3 {
		t.Errorf("%v", o)
	}
	if p := perms[1].(map[string]any); p["access"] != "read" || p["key"] != "etcdkit/config/a/b//rollout/" || p["prefix"] != true || p["rangeEnd"] != "etcdkit/config/a/b//rollout0" {
		t.Errorf("%v", p)
	}
	out, errs, code := do(t, "rbac", "--help")
	for _, words := range append([]string{"Exit codes:", "ETCDCTL_ENDPOINTS"}, "queue-push-ids", "topic-subscriber") {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}
