package pool

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// setEnv sets etcdctl's variables to these, and no others.
func setEnv(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "ETCDCTL_") {
			t.Setenv(name, "")
		}
	}
	for name, v := range vars {
		t.Setenv("ETCDCTL_"+name, v)
	}
}

func TestEtcdctlsVariablesDescribeAConfig(t *testing.T) {
	for _, c := range []struct {
		what string
		vars map[string]string
		ok   func(Config) bool
	}{
		{"nothing", nil, func(c Config) bool {
			return slices.Equal(c.Endpoints, []string{"127.0.0.1:2379"}) && c.TLS == nil && c.Username == "" && c.Password == "" && c.Token == "" && c.Retry.ConnectTimeout == 0
		}},
		{"endpoints", map[string]string{"ENDPOINTS": "https://a:1, https://b:1,"}, func(c Config) bool {
			return slices.Equal(c.Endpoints, []string{"https://a:1", "https://b:1"})
		}},
		{"commas only", map[string]string{"ENDPOINTS": " , "}, func(c Config) bool { return slices.Equal(c.Endpoints, []string{"127.0.0.1:2379"}) }},
		{"an authority", map[string]string{"CACERT": "ca.pem"}, func(c Config) bool { return *c.TLS == TLSFiles{CA: "ca.pem"} }},
		{"a key pair", map[string]string{"CERT": "c.pem", "KEY": "k.pem"}, func(c Config) bool { return *c.TLS == TLSFiles{Cert: "c.pem", Key: "k.pem"} }},
		{"any server", map[string]string{"INSECURE_SKIP_TLS_VERIFY": "true"}, func(c Config) bool { return *c.TLS == TLSFiles{AnyServer: true} }},
		{"not any server", map[string]string{"INSECURE_SKIP_TLS_VERIFY": "0"}, func(c Config) bool { return c.TLS == nil }},
		{"a user with a password", map[string]string{"USER": "app:canary"}, func(c Config) bool { return c.Username == "app" && c.Password == "canary" && c.PlaintextCredentials }},
		{"a password with a colon", map[string]string{"USER": "app:can:ary"}, func(c Config) bool { return c.Username == "app" && c.Password == "can:ary" }},
		{"a user and a password", map[string]string{"USER": "app", "PASSWORD": "can:ary"}, func(c Config) bool { return c.Username == "app" && c.Password == "can:ary" }},
		{"a token", map[string]string{"AUTH_JWT_TOKEN": "canary"}, func(c Config) bool { return c.Token == "canary" && c.Username == "" }},
		{"a dial timeout", map[string]string{"DIAL_TIMEOUT": "2500ms"}, func(c Config) bool { return c.Retry.ConnectTimeout == 2500*time.Millisecond }},
		{"what has no meaning", map[string]string{"KEEPALIVE_TIME": "x", "KEEPALIVE_TIMEOUT": "x", "COMMAND_TIMEOUT": "x", "INSECURE_TRANSPORT": "x", "API": "3"}, func(c Config) bool { return c.TLS == nil }},
		{"all", map[string]string{
			"ENDPOINTS": "https://a:1", "CACERT": "ca.pem", "CERT": "c.pem", "KEY": "k.pem", "INSECURE_SKIP_TLS_VERIFY": "false",
			"USER": "app", "PASSWORD": "canary", "DIAL_TIMEOUT": "3s",
		}, func(c Config) bool {
			return *c.TLS == TLSFiles{CA: "ca.pem", Cert: "c.pem", Key: "k.pem"} && c.Username == "app" && c.Password == "canary" && c.Retry.ConnectTimeout == 3*time.Second && slices.Equal(c.Endpoints, []string{"https://a:1"})
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			setEnv(t, c.vars)
			cfg, err := FromEnv()
			if err != nil {
				t.Fatal(err)
			}
			if !c.ok(cfg) {
				t.Error(cfg)
			}
			if err := cfg.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAVariableThatIsWrongIsNamedAndItsSecretIsNot(t *testing.T) {
	for _, c := range []struct {
		what string
		vars map[string]string
		want string
	}{
		{"a scheme", map[string]string{"ENDPOINTS": "ftp://a:1"}, `unknown scheme "ftp"`},
		{"a password in an endpoint", map[string]string{"ENDPOINTS": "http://app:canary@a:1"}, "credentials do not belong into an address"},
		{"half a pair", map[string]string{"CERT": "c.pem"}, "half a key pair"},
		{"the other half", map[string]string{"KEY": "k.pem"}, "half a key pair"},
		{"an authority without TLS", map[string]string{"CACERT": "ca.pem", "ENDPOINTS": "http://a:1"}, "without TLS"},
		{"maybe", map[string]string{"INSECURE_SKIP_TLS_VERIFY": "maybe"}, `ETCDCTL_INSECURE_SKIP_TLS_VERIFY must be true or false, not "maybe"`},
		{"two passwords", map[string]string{"USER": "app:canary", "PASSWORD": "canary"}, "ETCDCTL_USER and ETCDCTL_PASSWORD both have a password"},
		{"a user alone", map[string]string{"USER": "app"}, "Config.Username is set, and Config.Password is not"},
		{"an empty password", map[string]string{"USER": "app:"}, "Config.Username is set, and Config.Password is not"},
		{"a password alone", map[string]string{"PASSWORD": "canary"}, "Config.Password is set, and Config.Username is not"},
		{"a password and an empty user", map[string]string{"USER": ":canary"}, "Config.Password is set, and Config.Username is not"},
		{"a user and a token", map[string]string{"USER": "app:canary", "AUTH_JWT_TOKEN": "canary"}, "a name and a token"},
		{"a number", map[string]string{"DIAL_TIMEOUT": "2"}, `ETCDCTL_DIAL_TIMEOUT must be a duration, as 2s is, not "2"`},
		{"no time", map[string]string{"DIAL_TIMEOUT": "0s"}, "ETCDCTL_DIAL_TIMEOUT must be a duration"},
		{"negative time", map[string]string{"DIAL_TIMEOUT": "-1s"}, "ETCDCTL_DIAL_TIMEOUT must be a duration"},
		{"a name to look up", map[string]string{"DISCOVERY_SRV": "example.com"}, "ETCDCTL_DISCOVERY_SRV is not supported"},
	} {
		t.Run(c.what, func(t *testing.T) {
			setEnv(t, c.vars)
			cfg, err := FromEnv()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "ETCDCTL_") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error tells a secret: %v", err)
			}
			if cfg.Endpoints != nil || cfg.Password != "" || cfg.Token != "" {
				t.Errorf("with the error comes %v", cfg)
			}
		})
	}
}

func TestVariablesNeedNotBeOfTheEnvironment(t *testing.T) {
	setEnv(t, map[string]string{"USER": "root"}) // without a password, which is an error
	c, err := FromVariables(func(name string) string {
		return map[string]string{"ETCDCTL_ENDPOINTS": "a:1", "ETCDCTL_USER": "ann:secret"}[name]
	})
	if err != nil || !slices.Equal(c.Endpoints, []string{"a:1"}) || c.Username != "ann" || c.Password != "secret" {
		t.Errorf("%v, %v", c, err)
	}
}
