package main

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

func TestRBACGrantsWhatIsLackingAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	w := newRBACWorld(t)
	ctx := t.Context()
	_, err := w.root.UserAdd(ctx, "ada", rbacPassword)
	rbacMust(t, err)
	out, errs, code := w.rbac("queue-push", "mail", "--apply", "--grant-to", "ada")
	if code != 0 || errs != "role queue-push:mail: 2 permissions are new\nuser ada has it\n" || !strings.Contains(out, "ACCESS     RANGE   KEY ") || !strings.Contains(out, "readwrite  prefix  etcdkit/queue/mail//pushed/  ") ||
		!strings.Contains(out, "# Who has the role can overwrite and delete jobs") {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errs)
	}
	if _, errs, code = w.rbac("queue-push", "mail", "--apply", "--grant-to", "ada"); code != 0 || !strings.Contains(errs, "0 permissions are new") {
		t.Errorf("again: code %d, stderr %q", code, errs)
	}
	user, err := w.root.UserGet(ctx, "ada")
	if err != nil || len(user.Roles) != 1 || user.Roles[0] != "queue-push:mail" {
		t.Errorf("%v, %v", user, err)
	}

	// A role for several recipes: what one has given the other does not narrow.
	for _, recipe := range []string{"queue-observer", "queue-work", "queue-push"} {
		if _, errs, code = w.rbac(recipe, "mail", "--apply", "--role", "all"); code != 0 {
			t.Errorf("%s: code %d, stderr %q", recipe, code, errs)
		}
	}
	_, err = w.root.RoleGrantPermission(ctx, "all", "elsewhere", "", clientv3.PermissionType(clientv3.PermRead))
	rbacMust(t, err)
	out, _, _ = w.rbac("config-publisher", "mail/level", "--apply", "--role", "all", "-o", "json")
	o := objectsOf(t, out)[0]
	if o["applied"] != true || o["added"] != 4.0 || len(o["excess"].([]any)) != 9 {
		t.Errorf("%v", o)
	}
	if _, errs, _ = w.rbac("registry-reader", "mail", "--apply", "--role", "all"); !strings.Contains(errs, "the role has more than it needs for this: read on key elsewhere\n") {
		t.Errorf("%q", errs)
	}
	role, err := w.root.RoleGet(ctx, "all")
	rbacMust(t, err)
	have := roles.FromEtcd(role.Perm)
	for _, recipe := range []string{"queue-observer", "queue-work", "queue-push"} {
		r, err := roles.Find(recipe)
		rbacMust(t, err)
		perms, err := r.Needs(roles.Params{Name: "mail"})
		rbacMust(t, err)
		for _, p := range perms {
			if !roles.Allows(have, p) {
				t.Errorf("%s: %+v is not allowed any more", recipe, p)
			}
		}
	}
}

func TestRBACSaysWhyItCannotGrant(t *testing.T) {
	t.Parallel()
	w := newRBACWorld(t)
	_, err := w.root.UserAdd(t.Context(), "ada", rbacPassword)
	rbacMust(t, err)
	s := shellOn(t, w.endpoint)
	s.kind = "rbac"
	root := "root:" + rbacPassword
	s.fails(1, "authentication failed, invalid user ID or password", "lock", "a", "--apply", "--user", "root:wrong")
	s.fails(1, "role lock:a: etcdserver: permission denied: granting takes a user with the role root", "lock", "a", "--apply", "--user", "ada:"+rbacPassword)
	s.fails(1, "authentication is on, and no user was given (--user)", "lock", "a", "--apply")
	s.fails(1, "user bob: etcdserver: user name not found: etcdctl user add adds one", "lock", "a", "--apply", "--user", root, "--grant-to", "bob")

	off := shellOn(t, ownEtcd(t))
	off.kind = "rbac"
	for _, args := range [][]string{{"lock", "a", "--apply"}, {"lock", "a", "--apply", "--user", root}} { // it may be granted before
		r := off.run(args...)
		if r.code != 0 || !strings.HasSuffix(r.errs, "authentication is off: anybody may do anything until etcdctl auth enable\n") {
			t.Errorf("%+v", r)
		}
	}
}

// Who is confined to a namespace does all there, and nothing elsewhere.
func TestATenantIsConfinedToItsNamespace(t *testing.T) {
	t.Parallel()
	w := newRBACWorld(t)
	_, err := w.root.UserAdd(t.Context(), "ada", rbacPassword)
	rbacMust(t, err)
	if _, errs, code := w.rbac("--tenant", "team-a/", "--apply", "--grant-to", "ada"); code != 0 {
		t.Fatal(errs)
	}
	for _, e := range rbacExercises {
		if e.recipe == "lock" || e.recipe == "queue-work" || e.recipe == "config-publisher" {
			if err := w.exercise(e, "ada", "x/"+e.recipe, "team-a/"); err != nil {
				t.Errorf("%s: %v", e.recipe, err)
			}
		}
	}
	ada := w.dial("ada", nil)
	for _, key := range []string{"team-ab/x", "team-a", "x", "etcdkit/queue/x"} {
		if _, err := ada.Put(t.Context(), key, ""); err == nil {
			t.Errorf("%s was put", key)
		}
	}
}
