package roles_test

import (
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

func prefix(a roles.Access, p string) roles.Permission {
	return roles.Permission{Access: a, Key: p, End: clientv3.GetPrefixRangeEnd(p)}
}

func TestPermissionsTogetherAllowWhatNoneOfThemAllowsAlone(t *testing.T) {
	t.Parallel()
	one := func(a roles.Access, k string) roles.Permission { return roles.Permission{Access: a, Key: k} }
	span := func(a roles.Access, from, to string) roles.Permission {
		return roles.Permission{Access: a, Key: from, End: to}
	}
	type some = []roles.Permission
	for _, test := range []struct {
		have some
		want roles.Permission
		ok   bool
	}{
		{some{prefix(roles.ReadWrite, "a/")}, prefix(roles.Read, "a/b/"), true},
		{some{prefix(roles.ReadWrite, "a/")}, one(roles.Write, "a/b"), true},
		{some{prefix(roles.Read, "a/")}, one(roles.Write, "a/b"), false},
		{some{prefix(roles.Read, "a/"), prefix(roles.Write, "a/")}, prefix(roles.ReadWrite, "a/"), true},
		{some{prefix(roles.Read, "a/"), prefix(roles.Write, "a/b/")}, prefix(roles.ReadWrite, "a/"), false},
		{some{prefix(roles.Read, "a/b/")}, prefix(roles.Read, "a/"), false},
		{some{span(roles.Read, "b", "c"), span(roles.Read, "a", "b")}, span(roles.Read, "a", "c"), true},
		{some{span(roles.Read, "a", "b"), span(roles.Read, "b\x00", "c")}, span(roles.Read, "a", "c"), false},
		{some{span(roles.Read, "a", "z"), span(roles.Read, "b", "c")}, span(roles.Read, "a", "y"), true},
		{some{span(roles.Read, "a", "\x00")}, prefix(roles.Read, "\xff\xff"), true},
		{some{span(roles.Read, "a", "zzz")}, span(roles.Read, "b", "\x00"), false},
		{some{one(roles.Read, "a")}, one(roles.Read, "a"), true},
		{some{one(roles.Read, "a")}, prefix(roles.Read, "a"), false},
		{nil, one(roles.Read, "a"), false},
	} {
		if got := roles.Allows(test.have, test.want); got != test.ok {
			t.Errorf("%q allow %q: %v", test.have, test.want, got)
		}
	}
	if !span(roles.Read, "\x00", "\x00").Everything() || prefix(roles.Read, "a").Everything() {
		t.Error("Everything")
	}
	excess := roles.Excess(some{prefix(roles.ReadWrite, "a/"), prefix(roles.Read, "b/"), one(roles.Write, "c/x"), one(roles.Write, "c/y")},
		some{one(roles.Read, "a/1"), prefix(roles.Write, "b/"), prefix(roles.ReadWrite, "c/")})
	if len(excess) != 1 || excess[0].Key != "b/" {
		t.Errorf("%q", excess)
	}
}

func TestEachRecipeSaysWhatItIsAndNeedsNothingTwice(t *testing.T) {
	t.Parallel()
	for _, r := range roles.All() {
		if r.Name == "" || r.Does == "" || r.Others == "" {
			t.Errorf("%+v", r)
		}
		p := roles.Params{Name: "x/y"}
		if r.Of == "" {
			p.Name = ""
		}
		all, err := r.Needs(p)
		if err != nil || (len(all) == 0) != (r.Of == "") {
			t.Errorf("%s: %v, %v", r.Name, all, err)
		}
		for i, one := range all {
			others := append(append([]roles.Permission(nil), all[:i]...), all[i+1:]...)
			if one.For == "" || roles.Allows(others, one) || one.Prefix() != (one.End != "") || one.Prefix() != strings.HasSuffix(one.Key, "/") {
				t.Errorf("%s: %+v", r.Name, one)
			}
		}
		within := roles.Within("team/", all)
		for _, one := range within {
			if !roles.Allows([]roles.Permission{roles.Tenant("team/")}, one) || !strings.HasPrefix(one.Key, "team/") {
				t.Errorf("%s: %+v is not in the namespace", r.Name, one)
			}
		}
	}
	if _, err := roles.Find("queue"); !errors.Is(err, roles.ErrUnknown) || !strings.Contains(err.Error(), "queue-work") || strings.Contains(err.Error(), "lock") {
		t.Errorf("%v", err)
	}
	if _, err := roles.Find("bogus"); !errors.Is(err, roles.ErrUnknown) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("%v", err)
	}
	for name, p := range map[string]roles.Params{
		"lock": {}, "registry-instance": {Name: "a", ID: "x/y"}, "registry-reader": {Name: "a/"}, "config-instance": {Name: "a/"}, "config-reader": {Name: "etcdkit/config/a"},
		"queue-work": {Name: "a//b"}, "session": {Name: "a"}, "election": {Name: "a", ID: "x"}, "topic-publisher": {Name: "a", Prefix: "x"},
	} {
		r, err := roles.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := r.Needs(p); err == nil {
			t.Errorf("%s: %+v are taken: %v", name, p, all)
		}
	}
}
