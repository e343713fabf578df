package pool

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// FromEnv returns the Config that etcdctl's environment variables describe:
//
//	ETCDCTL_ENDPOINTS                  comma-separated; default 127.0.0.1:2379
//	ETCDCTL_CACERT, _CERT, _KEY        files for TLS
//	ETCDCTL_INSECURE_SKIP_TLS_VERIFY   true: any certificate will do
//	ETCDCTL_USER                       name, or name:password
//	ETCDCTL_PASSWORD                   the password, if it is not in the user's
//	ETCDCTL_AUTH_JWT_TOKEN             a token instead
//	ETCDCTL_DIAL_TIMEOUT               as in 2s: Retry.ConnectTimeout
//	ETCDCTL_KEEPALIVE_TIME, _TIMEOUT, ETCDCTL_COMMAND_TIMEOUT, ETCDCTL_INSECURE_TRANSPORT
//	                                   are read by etcdctl and have no meaning here
//
// Credentials go out without TLS if the endpoints are without, as etcdctl has it: PlaintextCredentials is set. An error names
// the variable and what is wrong with it, and not its value if that may be secret.
func FromEnv() (Config, error) { return FromVariables(os.Getenv) }

// FromVariables is FromEnv of the variables that get returns by their names, "" for those that are not set: for a command whose flags
// stand for some of them.
func FromVariables(get func(name string) string) (Config, error) {
	env := func(name string) string { return get("ETCDCTL_" + name) }
	c := Config{Username: env("USER"), Password: env("PASSWORD"), Token: env("AUTH_JWT_TOKEN"), PlaintextCredentials: true}
	if name, password, ok := strings.Cut(c.Username, ":"); ok {
		if c.Password != "" {
			return Config{}, errors.New("pool: ETCDCTL_USER and ETCDCTL_PASSWORD both have a password")
		}
		c.Username, c.Password = name, password
	}
	files := TLSFiles{CA: env("CACERT"), Cert: env("CERT"), Key: env("KEY")}
	if v := env("INSECURE_SKIP_TLS_VERIFY"); v != "" {
		skip, err := strconv.ParseBool(v)
		if err != nil {
			return Config{}, fmt.Errorf("pool: ETCDCTL_INSECURE_SKIP_TLS_VERIFY must be true or false, not %q", v)
		}
		files.AnyServer = skip
	}
	if files != (TLSFiles{}) {
		c.TLS = &files
	}
	if v := env("DISCOVERY_SRV"); v != "" {
		return Config{}, errors.New("pool: ETCDCTL_DISCOVERY_SRV is not supported: name the endpoints in ETCDCTL_ENDPOINTS")
	}
	for e := range strings.SplitSeq(env("ENDPOINTS"), ",") {
		if e = strings.TrimSpace(e); e != "" {
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{"127.0.0.1:2379"}
	}
	if v := env("DIAL_TIMEOUT"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return Config{}, fmt.Errorf("pool: ETCDCTL_DIAL_TIMEOUT must be a duration, as 2s is, not %q", v)
		}
		c.Retry.ConnectTimeout = d
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%w (from ETCDCTL_ variables)", err)
	}
	return c, nil
}
