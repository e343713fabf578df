package pool

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/retry"
)

// breaks is a configuration, and what the error says of the rule that it breaks; empty if it breaks none.
type breaks struct {
	what string
	cfg  Config
	want string
}

func at(endpoints ...string) Config { return Config{Endpoints: endpoints} }

// with changes a configuration that is good as it is.
func with(change func(*Config)) Config {
	c := at("https://localhost:2379")
	change(&c)
	return c
}

func TestAnAddressIsAHostAndAPortAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []breaks{
		{"a host and a port", at("localhost:2379"), ""},
		{"an address", at("127.0.0.1:2379"), ""},
		{"an address of version 6", at("[::1]:2379"), ""},
		{"with a zone", at("[fe80::1%eth0]:2379"), ""},
		{"http", at("http://localhost:2379"), ""},
		{"https", at("https://localhost:2379"), ""},
		{"https and a slash", at("https://localhost:2379/"), ""},
		{"https of version 6", at("https://[::1]:2379"), ""},
		{"a socket", at("unix:///run/etcd.sock"), ""},
		{"a socket here", at("unix:etcd.sock"), ""},
		{"a socket with TLS", at("unixs:///run/etcd.sock"), ""},
		{"several", at("https://a:1", "https://b:1", "https://c:1"), ""},

		{"none", at(), "Config.Endpoints is empty"},
		{"an empty one", at(""), "a host and a port are needed"},
		{"no port", at("localhost"), "a host and a port are needed"},
		{"no port and a scheme", at("https://localhost"), "a host and a port are needed"},
		{"an empty port", at("localhost:"), "a host and a port are needed"},
		{"no host", at(":2379"), "a host and a port are needed"},
		{"no host and a scheme", at("http://:2379"), "a host and a port are needed"},
		{"a port in words", at("localhost:etcd"), "a host and a port are needed"},
		{"no such port", at("localhost:65536"), "a host and a port are needed"},
		{"port 0", at("localhost:0"), "a host and a port are needed"},
		{"version 6 without brackets", at("::1:2379"), "a host and a port are needed"},
		{"an unknown scheme", at("ftp://localhost:2379"), `unknown scheme "ftp"`},
		{"etcd as a scheme", at("etcd://localhost:2379"), `unknown scheme "etcd"`},
		{"no scheme", at("://localhost:2379"), "not a URL"},
		{"a path", at("https://localhost:2379/v3"), "nothing may follow the port"},
		{"a query", at("https://localhost:2379?a=b"), "nothing may follow the port"},
		{"a fragment", at("https://localhost:2379#a"), "nothing may follow the port"},
		{"a path without a scheme", at("localhost:2379/v3"), "a host and a port are needed"},
		{"a path before the port", at("localhost/v3:2379"), "neither credentials nor a path"},
		{"a name and password", at("https://app:canary@localhost:2379"), "credentials do not belong into an address"},
		{"a name", at("https://canary@localhost:2379"), "credentials do not belong into an address"},
		{"a name and no scheme", at("canary@localhost:2379"), "neither credentials nor a path"},
		{"a name and password and no scheme", at("app:canary@localhost:2379"), "a host and a port are needed"},
		{"a password that is no URL", at("https://app:can%ary@localhost:2379"), "not a URL"},
		{"a password with an at sign", at("https://app:can@ary@localhost:2379"), ""},
		{"several in one", at("localhost:2379,localhost:2380"), "a host and a port are needed"},
		{"a socket without a path", at("unix://"), "a socket needs a path"},
		{"the same twice", at("localhost:2379", "localhost:2379"), `"localhost:2379" is there twice`},
		{"the same in other words", at("http://localhost:2379", "localhost:2379"), `"localhost:2379" is there twice`},
		{"the same socket", at("unix:///run/e", "unix:/run/e"), `"unix:/run/e" is there twice`},
		{"with and without TLS", at("https://a:1", "http://b:1"), "all must be with TLS, or all without"},
		{"with TLS and not said", at("https://a:1", "b:1"), "all must be with TLS, or all without"},
		{"sockets with and without", at("unix:///a", "unixs:///b"), "all must be with TLS, or all without"},
	} {
		err := c.cfg.Validate()
		if c.what == "a password with an at sign" { // whichever rule it breaks
			c.want = "endpoint"
		}
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v: %v, want %q", c.what, c.cfg.Endpoints, err, c.want)
		case err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "can%ary") || strings.Contains(err.Error(), "can@ary")):
			t.Errorf("%s: the error tells the password: %v", c.what, err)
		}
	}
}

func TestEachRuleOfAConfigHasItsError(t *testing.T) {
	t.Parallel()
	callback := func(context.Context) (Credentials, error) { return Credentials{}, nil }
	for _, c := range []breaks{
		{"nothing but endpoints", with(func(*Config) {}), ""},
		{"a name", with(func(c *Config) { c.Username, c.Password = "app", "canary" }), ""},
		{"a token", with(func(c *Config) { c.Token = "canary" }), ""},
		{"a callback", with(func(c *Config) { c.Credentials = callback }), ""},
		{"TLS of an address that says nothing", Config{Endpoints: []string{"a:1"}, TLS: &TLSFiles{}, Token: "canary"}, ""},
		{"a key pair", with(func(c *Config) { c.TLS = &TLSFiles{Cert: "c", Key: "k"} }), ""},
		{"plaintext, by name", Config{Endpoints: []string{"a:1"}, Username: "app", Password: "canary", PlaintextCredentials: true}, ""},
		{"a scheme in capitals", Config{Endpoints: []string{"HTTPS://a:1"}, Token: "canary"}, ""},
		{"no bounds", with(func(c *Config) {
			c.IdleTimeout, c.MaxLifetime = -1, -1
			c.Retry = retry.Policy{MaxAttempts: -1, ConnectTimeout: -1, ReadTimeout: -1, MaxElapsed: -1, AttemptTimeout: -1}
		}), ""},

		{"a name without a password", with(func(c *Config) { c.Username = "app" }), "Config.Username is set, and Config.Password is not"},
		{"a password without a name", with(func(c *Config) { c.Password = "canary" }), "Config.Password is set, and Config.Username is not"},
		{"a name and a token", with(func(c *Config) { c.Username, c.Password, c.Token = "app", "canary", "canary" }), "a name and a token"},
		{"half a name and a token", with(func(c *Config) { c.Username, c.Token = "app", "canary" }), "a name and a token"},
		{"a token and a callback", with(func(c *Config) { c.Token, c.Credentials = "canary", callback }), "credentials and a Credentials callback"},
		{"a name and a callback", with(func(c *Config) { c.Username, c.Password, c.Credentials = "app", "canary", callback }), "credentials and a Credentials callback"},
		{"a name over plaintext", Config{Endpoints: []string{"a:1"}, Username: "app", Password: "canary"}, "set Config.PlaintextCredentials"},
		{"a token over plaintext", Config{Endpoints: []string{"http://a:1"}, Token: "canary"}, "set Config.PlaintextCredentials"},
		{"a callback over plaintext", Config{Endpoints: []string{"unix:///a"}, Credentials: callback}, "set Config.PlaintextCredentials"},
		{"a certificate without a key", with(func(c *Config) { c.TLS = &TLSFiles{Cert: "c"} }), "TLSFiles.Key is not: half a key pair"},
		{"a key without a certificate", with(func(c *Config) { c.TLS = &TLSFiles{Key: "k"} }), "TLSFiles.Cert is not: half a key pair"},
		{"any server, and an authority", with(func(c *Config) { c.TLS = &TLSFiles{AnyServer: true, CA: "ca"} }), "AnyServer accepts every certificate"},
		{"any server, and a name", with(func(c *Config) { c.TLS = &TLSFiles{AnyServer: true, ServerName: "etcd"} }), "AnyServer accepts every certificate"},
		{"TLS files and http", Config{Endpoints: []string{"http://a:1"}, TLS: &TLSFiles{}}, "Config.TLS is set, and endpoint \"http://a:1\" is without TLS"},
		{"a negative number", with(func(c *Config) { c.MaxConnections = -1 }), "Config.MaxConnections must not be negative"},
		{"a negative wait", with(func(c *Config) { c.AcquireTimeout = -1 }), "Config.AcquireTimeout must not be negative"},
		{"NUL", with(func(c *Config) { c.Namespace = "a\x00/" }), "Config.Namespace must not contain NUL"},
		{"connecting for longer than everything", with(func(c *Config) {
			c.Retry = retry.Policy{ConnectTimeout: 2 * time.Second, MaxElapsed: time.Second}
		}), "Policy.MaxElapsed (1s) must not be below Policy.ConnectTimeout (2s)"},
		{"an attempt longer than all of them", with(func(c *Config) {
			c.Retry = retry.Policy{AttemptTimeout: 2 * time.Second, ReadTimeout: time.Second}
		}), "Policy.ReadTimeout (1s) must not be below Policy.AttemptTimeout (2s)"},
		{"shrinking waits", with(func(c *Config) { c.Retry.Multiplier = 0.5 }), "Policy.Multiplier must be at least 1"},
		{"negative jitter", with(func(c *Config) { c.Retry.Jitter = -0.1 }), "Policy.Jitter must be between 0 and 1"},
		{"the most below the least", with(func(c *Config) { c.Retry = retry.Policy{Initial: time.Second, Max: time.Millisecond} }), "Policy.Max (1ms) must not be below"},
	} {
		err := c.cfg.Validate()
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the error tells a secret: %v", c.what, err)
		case err != nil && strings.Count(err.Error(), "\n") > 0:
			t.Errorf("%s: more than one error: %v", c.what, err)
		}
	}
}

func TestAZeroFieldMeansItsDefault(t *testing.T) {
	t.Parallel()
	c := Config{}.resolve()
	if c.MaxConnections != 4 || c.IdleTimeout != 5*time.Minute || c.AcquireTimeout != time.Second || c.MaxLifetime != time.Hour || c.Logger == nil {
		t.Errorf("%d %v %v %v %v", c.MaxConnections, c.IdleTimeout, c.AcquireTimeout, c.MaxLifetime, c.Logger)
	}
	c = Config{MaxConnections: 1, IdleTimeout: -1, AcquireTimeout: 2, MaxLifetime: -1}.resolve()
	if c.MaxConnections != 1 || c.IdleTimeout != 0 || c.AcquireTimeout != 2 || c.MaxLifetime != 0 {
		t.Errorf("%d %v %v %v", c.MaxConnections, c.IdleTimeout, c.AcquireTimeout, c.MaxLifetime)
	}
}

// What is accepted is dialled, so it has an address; what is refused is shown, so it has none of the secrets in it.
func FuzzValidate(f *testing.F) {
	for _, seed := range []string{
		"localhost:2379", "https://localhost:2379", "unix:///run/etcd", "unixs:a", "http://[::1%25a]:1", "ftp://a", "a", ":1", "://", "https://a:b@c:1",
		"@:1", "a@b:1", "https://%zz", "unix:", "\x00:1", "https://a:1/%", "[", "[::1]", "//a:1", "https:a:1", "HTTPS://a:1", "unix://a@b:c",
	} {
		f.Add(seed, "b:1")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		c := Config{Endpoints: []string{one, other}, Token: "token"}
		err := c.Validate()
		_ = c.String()
		address, bad := addressOf(one)
		if err == nil && (bad != nil || address == "") {
			t.Errorf("%q is valid, and its address is %q: %v", one, address, bad)
		}
		if secret := "https://app:" + fmt.Sprintf("%x", one) + "canary@" + other; !strings.Contains(other, "canary") {
			if text := fmt.Sprint(at(secret).Validate(), at(secret)); strings.Contains(text, "canary@") {
				t.Errorf("%q is shown in %s", secret, text)
			}
		}
	})
}
