package registry

import (
	"fmt"
	"strings"
	"testing"
)

func TestInstancesAreRefusedWithTheRuleTheyBreak(t *testing.T) {
	t.Parallel()
	good := Instance{Service: "mail", ID: "a", Addr: "10.0.0.7:80"}
	for _, c := range []struct {
		edit func(*Instance)
		rule string // empty if it is none
	}{
		{func(*Instance) {}, ""},
		{func(i *Instance) { i.ID = "" }, "empty"},
		{func(i *Instance) { i.ID = "a/b" }, "slash"},
		{func(i *Instance) { i.ID = ".." }, `".."`},
		{func(i *Instance) { i.ID = "a\x00" }, "control character"},
		{func(i *Instance) { i.ID = "\xff" }, "UTF-8"},
		{func(i *Instance) { i.ID = strings.Repeat("x", maxID) }, ""},
		{func(i *Instance) { i.ID = strings.Repeat("x", maxID+1) }, "over 255 bytes"},
		{func(i *Instance) { i.Addr = "mail.example.com:443" }, ""},
		{func(i *Instance) { i.Addr = "[::1]:80" }, ""},
		{func(i *Instance) { i.Addr = "[fe80::1%eth0]:80" }, ""},
		{func(i *Instance) { i.Addr = "" }, "host:port"},
		{func(i *Instance) { i.Addr = "10.0.0.7" }, "host:port"},
		{func(i *Instance) { i.Addr = ":80" }, "host:port"},
		{func(i *Instance) { i.Addr = "host:" }, "host:port"},
		{func(i *Instance) { i.Addr = "host:0" }, "host:port"},
		{func(i *Instance) { i.Addr = "host:65536" }, "host:port"},
		{func(i *Instance) { i.Addr = "host:http" }, "host:port"},
		{func(i *Instance) { i.Addr = "host:-1" }, "host:port"},
		{func(i *Instance) { i.Addr = "http://host:80" }, "host:port"},
		{func(i *Instance) { i.Addr = "a b:80" }, "host:port"},
		{func(i *Instance) { i.Addr = "a\x00:80" }, "host:port"},
		{func(i *Instance) { i.Addr = "0.0.0.0:80" }, "listen on"},
		{func(i *Instance) { i.Addr = "[::]:80" }, "listen on"},
		{func(i *Instance) { i.Zone = "eu\n" }, "Zone refused"},
		{func(i *Instance) { i.Version = "\xff" }, "Version refused"},
		{func(i *Instance) { i.Weight = 1 }, ""},
		{func(i *Instance) { i.Weight = maxWeight }, ""},
		{func(i *Instance) { i.Weight = -1 }, "Weight refused"},
		{func(i *Instance) { i.Weight = maxWeight + 1 }, "Weight refused"},
		{func(i *Instance) { i.Metadata = map[string]string{"k": ""} }, ""},
		{func(i *Instance) { i.Metadata = map[string]string{"": "v"} }, "empty key"},
		{func(i *Instance) { i.Metadata = map[string]string{"k": "\xff"} }, "UTF-8"},
		{func(i *Instance) { i.Metadata = map[string]string{"\xff": "v"} }, "UTF-8"},
		{func(i *Instance) { i.Metadata = map[string]string{"k": strings.Repeat("x", maxSize)} }, "64 KiB"},
	} {
		i := good
		c.edit(&i)
		_, err := newWish(i)
		shown := fmt.Sprintf("%.200s", fmt.Sprintf("%+v", i))
		switch {
		case c.rule == "" && err != nil:
			t.Errorf("%s was refused: %v", shown, err)
		case c.rule != "" && err == nil:
			t.Errorf("%s was not refused", shown)
		case c.rule != "" && !strings.Contains(err.Error(), c.rule):
			t.Errorf("%s was refused without naming the rule %q: %v", shown, c.rule, err)
		}
	}
}

func TestPrefixesAreRefusedWithTheRuleTheyBreak(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prefix, service, want, rule string }{
		{"", "mail", "services/mail/", ""},
		{"prod/services", "shop/cart", "prod/services/shop/cart/", ""},
		{"/services", "mail", "/services/mail/", ""},
		{"services/", "mail", "", "ends in a slash"},
		{"a//b", "mail", "", "empty segment"},
		{"..", "mail", "", `".."`},
		{"a\x00", "mail", "", "control character"},
		{"services", "/mail", "services//mail/", ""},
		{"services", "", "", "empty"},
		{"services", "mail/", "", "ends in a slash"},
		{"services", "a//b", "", "empty segment"},
		{"services", "a/../b", "", `".."`},
		{"services", "a\nb", "", "control character"},
	} {
		got, err := servicePrefix(c.prefix, c.service)
		if got != c.want || (err == nil) != (c.rule == "") || err != nil && !strings.Contains(err.Error(), c.rule) {
			t.Errorf("prefix %q and service %q make %q, %v; want %q, %q", c.prefix, c.service, got, err, c.want, c.rule)
		}
	}
}
