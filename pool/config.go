package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/retry"
)

// Defaults of a Config's zero fields.
const (
	defaultMaxConnections = 4
	defaultIdleTimeout    = 5 * time.Minute
	defaultAcquireTimeout = time.Second
	defaultMaxLifetime    = time.Hour
)

// Config says where etcd is and how to connect to it. A zero field means its default. It may be printed, logged and
// marshalled: passwords and tokens are left out (see [Config.String]). In an unexported field of your own struct it is not: fmt
// asks no methods there.
type Config struct {
	// Endpoints are the members' client addresses: host:port, http://host:port, https://host:port, unix:///path or
	// unixs:///path. All with TLS, or all without. Required.
	Endpoints []string

	// Namespace is put before every key, and taken off what is read, as by clientv3's namespace package. It is a prefix as
	// it stands, so it should end in a slash. Default none.
	Namespace string

	// TLS names the files for connections with TLS. Default none: then https endpoints are verified against the system's
	// authorities.
	TLS *TLSFiles

	// Username and Password authenticate by name; Token by a JWT. Only one of the two ways, or Credentials.
	Username, Password, Token string

	// Credentials, if set, is asked for the name and password, or the token, whenever a token is to be had: at Open, before
	// one expires, and after etcd has refused one. So they can be rotated without a restart. It is called by one goroutine
	// at a time; ctx bounds it.
	Credentials func(ctx context.Context) (Credentials, error)

	// PlaintextCredentials allows passwords and tokens to be sent over connections without TLS, where anybody on the way
	// can read them.
	PlaintextCredentials bool

	// Retry is the policy of every call: see [retry.DialOptions]. Its ConnectTimeout also bounds Open.
	Retry retry.Policy

	// MaxConnections is how many connections Do opens at most. Default 4.
	MaxConnections int

	// IdleTimeout closes a connection of Do's that was not used for so long. Default 5 min; negative means never.
	IdleTimeout time.Duration

	// AcquireTimeout bounds the wait for a connection in Do. Default 1 s.
	AcquireTimeout time.Duration

	// MaxLifetime is how old a connection becomes, less up to a quarter of it at random: after a member has returned, it
	// is found again within that. Default 1 h; negative means that age does not matter.
	MaxLifetime time.Duration

	// Logger is told of endpoints that are left out and taken in again, of certificates and connections that are replaced,
	// and what clientv3 has to say. Default none.
	Logger *zap.Logger
}

// Credentials are what a member asks for: a name and a password, or a token (a JWT).
type Credentials struct {
	Username, Password, Token string
}

// Validate returns nil, or an error that names the rule that c breaks. It reads no files and opens no connections; Open does
// both, after this.
func (c Config) Validate() error {
	if err := c.validateEndpoints(); err != nil {
		return err
	}
	if err := c.validateCredentials(); err != nil {
		return err
	}
	if err := c.TLS.validate(); err != nil {
		return err
	}
	switch {
	case c.MaxConnections < 0:
		return fmt.Errorf("pool: Config.MaxConnections must not be negative, as %d is", c.MaxConnections)
	case c.AcquireTimeout < 0:
		return fmt.Errorf("pool: Config.AcquireTimeout must not be negative, as %v is", c.AcquireTimeout)
	case strings.ContainsRune(c.Namespace, 0):
		return errors.New("pool: Config.Namespace must not contain NUL")
	}
	return c.Retry.Validate()
}

func (c Config) validateEndpoints() error {
	if len(c.Endpoints) == 0 {
		return errors.New("pool: Config.Endpoints is empty: at least one is needed")
	}
	seen := map[string]bool{}
	for _, e := range c.Endpoints {
		address, err := addressOf(e)
		if err != nil {
			return fmt.Errorf("pool: endpoint %q: %w", anonymous(e), err)
		}
		if seen[address] {
			return fmt.Errorf("pool: endpoint %q is there twice", e)
		}
		seen[address] = true
		if c.secure(e) != c.secure(c.Endpoints[0]) {
			return fmt.Errorf("pool: endpoints %q and %q: all must be with TLS, or all without", c.Endpoints[0], e)
		}
	}
	if c.TLS != nil && !c.secure(c.Endpoints[0]) {
		return fmt.Errorf("pool: Config.TLS is set, and endpoint %q is without TLS: write https", c.Endpoints[0])
	}
	return nil
}

func (c Config) validateCredentials() error {
	name, token := c.Username != "" || c.Password != "", c.Token != ""
	switch {
	case name && token:
		return errors.New("pool: Config has a name and a token: only one of them can be meant")
	case (name || token) && c.Credentials != nil:
		return errors.New("pool: Config has credentials and a Credentials callback: only one of them can be meant")
	case name && c.Username == "":
		return errors.New("pool: Config.Password is set, and Config.Username is not")
	case name && c.Password == "":
		return errors.New("pool: Config.Username is set, and Config.Password is not")
	case (name || token || c.Credentials != nil) && !c.secure(c.Endpoints[0]) && !c.PlaintextCredentials:
		return fmt.Errorf("pool: endpoint %q is without TLS: anybody on the way could read the credentials; set Config.PlaintextCredentials if that is meant", c.Endpoints[0])
	}
	return nil
}

// secure reports whether connections to an endpoint are with TLS, as clientv3 decides it: by the scheme, and where that says
// nothing by whether there is a TLS configuration.
func (c Config) secure(endpoint string) bool {
	switch scheme, _, _ := strings.Cut(endpoint, ":"); strings.ToLower(scheme) {
	case "https", "unixs":
		return true
	case "http":
		return false
	}
	return c.TLS != nil
}

// resolve fills in the defaults, and turns "negative means none" into "zero means none".
func (c Config) resolve() Config {
	c.MaxConnections = orDefault(c.MaxConnections, defaultMaxConnections)
	c.AcquireTimeout = orDefault(c.AcquireTimeout, defaultAcquireTimeout)
	c.IdleTimeout = max(orDefault(c.IdleTimeout, defaultIdleTimeout), 0)
	c.MaxLifetime = max(orDefault(c.MaxLifetime, defaultMaxLifetime), 0)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// orDefault is v, or the default for zero.
func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// addressOf is the address of an endpoint as clientv3 has it dialled: host:port, or unix: and a path.
func addressOf(endpoint string) (string, error) {
	if path, ok := cutUnix(endpoint); ok {
		if path == "" {
			return "", errors.New("a socket needs a path")
		}
		return "unix:" + path, nil
	}
	address := endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil {
			return "", errors.New("not a URL")
		}
		switch {
		case u.Scheme != "http" && u.Scheme != "https":
			return "", fmt.Errorf("unknown scheme %q: use http, https, unix or unixs", u.Scheme)
		case u.User != nil:
			return "", errors.New("credentials do not belong into an address")
		case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
			return "", errors.New("nothing may follow the port")
		}
		address = u.Host
	}
	host, port, err := net.SplitHostPort(address)
	if strings.ContainsAny(host, "@/") {
		return "", errors.New("neither credentials nor a path belong into an address")
	}
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || number == 0 {
		return "", errors.New("a host and a port are needed, as in localhost:2379")
	}
	return address, nil
}

// anonymous is an endpoint as it may be seen: without the credentials that do not belong into it.
func anonymous(endpoint string) string {
	at := strings.LastIndex(endpoint, "@")
	if _, socket := cutUnix(endpoint); socket || at < 0 {
		return endpoint
	}
	scheme, _, ok := strings.Cut(endpoint, "://")
	if !ok {
		return redacted + endpoint[at:]
	}
	return scheme + "://" + redacted + endpoint[at:]
}

// cutUnix returns the path of a socket's endpoint.
func cutUnix(endpoint string) (path string, ok bool) {
	for _, scheme := range [...]string{"unix:", "unixs:"} {
		if rest, ok := strings.CutPrefix(endpoint, scheme); ok {
			return strings.TrimPrefix(rest, "//"), true
		}
	}
	return "", false
}
