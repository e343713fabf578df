package grpcresolver

import (
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

func target(t *testing.T, s string) resolver.Target {
	t.Helper()
	u, err := url.Parse(s) // as gRPC does
	if err != nil {
		t.Fatal(err)
	}
	return resolver.Target{URL: *u}
}

func TestATargetNamesAService(t *testing.T) {
	for text, want := range map[string]string{
		"etcdkit:///mail":         "mail",
		"etcdkit:///shop/cart":    "shop/cart",
		"etcdkit:////shop":        "/shop",
		"etcdkit:///caf%C3%A9":    "café",
		"etcdkit:///what%3Fnow":   "what?now",
		"etcdkit:/mail":           "mail",
		"etcdkit:///10.0.0.7:80/": "",
	} {
		got, err := serviceOf(target(t, text))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
}

func TestWhatBreaksARuleIsRefusedWithTheRuleAndWithoutIO(t *testing.T) {
	for _, c := range []struct {
		target string
		opts   *Options
		rule   string
	}{
		{"etcdkit://mail", nil, "authority"},
		{"etcdkit://shop/cart", nil, "authority"},
		{"etcdkit://user@/mail", nil, "authority"},
		{"etcdkit:mail", nil, "no slashes"},
		{"etcdkit:///mail?zone=eu", nil, "query"},
		{"etcdkit:///mail?", nil, "query"},
		{"etcdkit:///mail#eu", nil, "fragment"},
		{"etcdkit:///", nil, "empty"},
		{"etcdkit:///mail/", nil, "ends in a slash"},
		{"etcdkit:///a/../b", nil, `".."`},
		{"etcdkit:///mail", &Options{View: registry.ViewOptions{Prefix: "services/"}}, "ends in a slash"},
		{"etcdkit:///mail", &Options{Retry: retry.Policy{Jitter: 2}}, "Jitter"},
	} {
		// Neither the client nor the connection is there to be used.
		r, err := New(nil, c.opts).Build(target(t, c.target), nil, resolver.BuildOptions{})
		if err == nil || !strings.Contains(err.Error(), c.rule) || !strings.HasPrefix(err.Error(), "grpcresolver: ") {
			t.Errorf("%s: got %v, want the rule %q", c.target, err, c.rule)
		}
		if r != nil {
			t.Errorf("%s: got a resolver", c.target)
		}
	}
}

func TestTheOptionsMayBeChangedAfterNew(t *testing.T) {
	opts := &Options{View: registry.ViewOptions{Prefix: "mine"}}
	b := New(nil, opts).(*builder)
	opts.View.Prefix = "theirs"
	if b.opts.View.Prefix != "mine" {
		t.Error("the builder has followed the change")
	}
}
