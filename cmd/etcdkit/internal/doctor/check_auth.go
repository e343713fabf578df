package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

const (
	// rootName is the user and the role that etcd allows everything.
	rootName = "root"

	// mostUsers bounds the users that are examined: each costs a login.
	mostUsers = 100
)

// byRoot is what to do to have something looked at that etcd shows to root alone.
const byRoot = "Examine with --root root."

// checkAuth looks at who may do what.
func checkAuth(ctx context.Context, p *Patient) []Finding {
	status, err := p.Client.AuthStatus(ctx)
	switch {
	case err != nil && !denied(err):
		return []Finding{{Verdict: Skipped, Subject: "authentication", Reason: "whether it is on could not be asked", Evidence: []string{inLine(err)}, Remedy: "See check 4."}}
	case err == nil && !status.Enabled:
		return []Finding{{
			Verdict: Fail, Subject: "authentication", Reason: "it is off: whoever reaches a member may read, write and delete every key, and remove members",
			Remedy: "Make a root user and one for each application (etcdctl user add, etcdkit rbac), and turn it on: etcdctl auth enable.",
		}}
	}
	findings := []Finding{{Verdict: OK, Subject: "authentication", Reason: "it is on"}}
	for _, f := range append(p.examineUser(ctx), p.examineUsers(ctx)...) {
		same := func(other Finding) bool { return other.Subject == f.Subject && other.Reason == f.Reason }
		if !slices.ContainsFunc(findings, same) { // a role of this user is one of the others', too
			findings = append(findings, f)
		}
	}
	return findings
}

// user is who this connection is to etcd; "" if that is not known.
func (p *Patient) user() string {
	switch {
	case p.Config.Username != "":
		return p.Config.Username
	case p.Config.Token != "": // of a JWT, etcd takes this part
		var claims struct{ Username string }
		if parts := strings.Split(p.Config.Token, "."); len(parts) == 3 {
			if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
				_ = json.Unmarshal(payload, &claims) // if it is not that, nothing is known
			}
		}
		return claims.Username
	case p.tls != nil && len(p.tls.Certificates) > 0 && p.tls.Certificates[0].Leaf != nil:
		return p.tls.Certificates[0].Leaf.Subject.CommonName
	}
	return ""
}

// examineUser looks at the user of this connection, who is to be the application's.
func (p *Patient) examineUser(ctx context.Context) []Finding {
	name := p.user()
	f := Finding{Verdict: OK, Subject: "user " + cli.Visible(name)}
	if name == "" {
		f.Verdict, f.Subject, f.Reason, f.Remedy = Skipped, "user", "this connection has none, so what the application may do is not known", "Examine with the application's --user."
		return []Finding{f}
	}
	got, err := p.Client.UserGet(ctx, name)
	if err != nil {
		f.Verdict, f.Reason, f.Evidence, f.Remedy = Skipped, "its roles could not be asked", []string{inLine(err)}, "Examine with the application's --user."
		if denied(err) {
			f.Verdict, f.Reason = Fail, "etcd takes this connection for that of no user"
		}
		return []Finding{f}
	}
	f.Evidence = []string{rolesOf(got.Roles)}
	switch {
	case slices.Contains(got.Roles, rootName):
		f.Verdict, f.Reason = Fail, "this connection is root's: a program with it may do everything, by mistake too, and no more was examined of it"
		f.Remedy = "Give the application a user of its own (etcdkit rbac), and examine with that: --user app --root root."
		return []Finding{f}
	case len(got.Roles) == 0:
		f.Verdict, f.Reason, f.Remedy = Fail, "it has no roles, and may do nothing", "Grant it one: etcdkit rbac RECIPE NAME."
		return []Finding{f}
	}
	f.Reason = "it is not root"
	return append([]Finding{f}, p.examineRights(ctx, name, got.Roles)...)
}

// examineRights compares what roles allow to what was declared.
func (p *Patient) examineRights(ctx context.Context, user string, named []string) []Finding {
	var all []roles.Permission
	of := map[string][]roles.Permission{}
	for _, role := range named {
		got, err := p.Client.RoleGet(ctx, role)
		if err != nil {
			return []Finding{{Verdict: Skipped, Subject: "role " + cli.Visible(role), Reason: "it could not be asked", Evidence: []string{inLine(err)}, Remedy: byRoot}}
		}
		of[role] = roles.FromEtcd(got.Perm)
		all = append(all, of[role]...)
	}
	var findings []Finding
	for _, role := range named {
		if f, wide := judgeWide(role, of[role]); wide {
			findings = append(findings, f)
		} else if p.declared.declared {
			findings = append(findings, p.declared.judgeRole(role, of[role])...)
		}
	}
	if !p.declared.declared {
		return append(findings, Finding{
			Verdict: Skipped, Subject: "rights of " + cli.Visible(user), Reason: "what the application needs was not declared, so whether they are enough, and not more, is not known",
			Evidence: allowed(all), Remedy: "Examine with --recipe RECIPE=NAME for each recipe that it uses, and --keys PREFIX for keys of its own.",
		})
	}
	f := Finding{Verdict: OK, Subject: "rights of " + cli.Visible(user), Reason: "they are enough for what was declared", Evidence: allowed(all)}
	if missing := p.declared.missing(all); len(missing) > 0 {
		f.Verdict, f.Reason, f.Evidence = Fail, "they are not enough for what was declared", nil
		for _, m := range missing {
			f.Evidence = append(f.Evidence, fmt.Sprintf("it may not %s, as %s needs", inWords(m), cli.Visible(m.For)))
		}
		f.Remedy = "Grant what is missing: etcdkit rbac RECIPE NAME prints the commands."
	}
	return append(findings, f)
}

// judgeRole says whether a role allows more than is needed.
func (n needs) judgeRole(role string, perms []roles.Permission) []Finding {
	much := n.tooMuch(perms)
	if len(much) == 0 {
		return []Finding{{Verdict: OK, Subject: "role " + cli.Visible(role), Reason: "it allows nothing beyond what was declared", Evidence: allowed(perms)}}
	}
	f := Finding{
		Verdict: Fail, Subject: "role " + cli.Visible(role), Reason: "it allows more than what was declared needs", Evidence: allowed(much),
		Remedy: "Take it back: " + revoke(role, much[0]) + ", and grant what is needed: etcdkit rbac RECIPE NAME. Or declare what needs it: --recipe, --keys.",
	}
	return []Finding{f}
}

// judgeWide says whether a role allows something with every key.
func judgeWide(role string, perms []roles.Permission) (Finding, bool) {
	for _, p := range perms {
		if p.Everything() {
			return Finding{
				Verdict: Fail, Subject: "role " + cli.Visible(role), Reason: "it allows to " + inWords(p) + ", those of other applications and tenants as well",
				Evidence: allowed(perms), Remedy: "Grant what is needed (etcdkit rbac RECIPE NAME), and take that back: " + revoke(role, p) + ".",
			}, true
		}
	}
	return Finding{}, false
}

// allowed are permissions, as evidence.
func allowed(perms []roles.Permission) (all []string) {
	for _, p := range perms {
		all = append(all, "it may "+inWords(p))
	}
	return all
}

// rolesOf says which somebody has.
func rolesOf(names []string) string {
	if len(names) == 0 {
		return "no roles"
	}
	return "roles: " + cli.Visible(strings.Join(names, ", "))
}

// examineUsers looks at all users, and at their roles.
func (p *Patient) examineUsers(ctx context.Context) []Finding {
	etcd := p.Privileged()
	users, err := etcd.UserList(ctx)
	if err != nil {
		return []Finding{{Verdict: Skipped, Subject: "other users", Reason: "they are shown to root alone", Evidence: []string{inLine(err)}, Remedy: byRoot}}
	}
	var findings []Finding
	var roots, none, used []string
	names := users.Users
	if len(names) > mostUsers {
		findings = append(findings, Finding{Verdict: Skipped, Subject: "users", Reason: fmt.Sprintf("only %d of %d were looked at", mostUsers, len(names))})
		names = names[:mostUsers]
	}
	for _, name := range names {
		got, err := etcd.UserGet(ctx, name)
		if err != nil {
			findings = append(findings, Finding{Verdict: Skipped, Subject: "user " + cli.Visible(name), Reason: "its roles could not be asked", Evidence: []string{inLine(err)}, Remedy: byRoot})
			continue
		}
		switch {
		case len(got.Roles) == 0:
			none = append(none, cli.Visible(name))
		case slices.Contains(got.Roles, rootName) && name != rootName:
			roots = append(roots, cli.Visible(name))
		}
		used = append(used, got.Roles...)
	}
	if len(none) > 0 {
		findings = append(findings, Finding{
			Verdict: Warn, Subject: "users without roles", Reason: "they may do nothing but log in, and list members", Evidence: none, Remedy: "Grant them a role, or delete them: etcdctl user delete NAME.",
		})
	}
	if len(roots) > 0 {
		findings = append(findings, Finding{
			Verdict: Warn, Subject: "users with role root", Reason: "they may do everything, beside user root", Evidence: roots,
			Remedy: "See to it that these are people or machines that operate etcd: etcdctl user revoke-role NAME root takes it from the others.",
		})
	}
	slices.Sort(used)
	findings = append(findings, examineRoles(ctx, etcd, slices.Compact(used))...)
	findings = append(findings, examinePasswords(ctx, etcd, names)...)
	if worst(findings) == OK {
		return []Finding{{Verdict: OK, Subject: "users", Reason: "all have roles and need a password or a certificate; no role but root's is for every key", Evidence: visible(names)}}
	}
	return slices.DeleteFunc(findings, func(f Finding) bool { return f.Verdict == OK })
}

// examineRoles looks for those that allow something with every key.
func examineRoles(ctx context.Context, etcd *clientv3.Client, named []string) (findings []Finding) {
	for _, role := range named {
		if role == rootName {
			continue
		}
		got, err := etcd.RoleGet(ctx, role)
		if err != nil {
			findings = append(findings, Finding{Verdict: Skipped, Subject: "role " + cli.Visible(role), Reason: "it could not be asked", Evidence: []string{inLine(err)}, Remedy: byRoot})
			continue
		}
		if f, wide := judgeWide(role, roles.FromEtcd(got.Perm)); wide {
			findings = append(findings, f)
		}
	}
	return findings
}

// examinePasswords looks for users that need none.
func examinePasswords(ctx context.Context, etcd *clientv3.Client, names []string) []Finding {
	var empty []string
	for _, name := range names {
		if _, err := etcd.Authenticate(ctx, name, ""); err == nil {
			empty = append(empty, cli.Visible(name))
		}
	}
	if len(empty) == 0 {
		return nil
	}
	return []Finding{{
		Verdict: Fail, Subject: "users without a password", Reason: "whoever knows their names can log in as them", Evidence: empty,
		Remedy: "Set one: etcdctl user passwd NAME. Or have them log in with certificates: etcdctl user add NAME --no-password.",
	}}
}

// visible are names as they can be shown.
func visible(names []string) []string {
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = cli.Visible(name)
	}
	return shown
}
