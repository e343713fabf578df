package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/pool"
)

// defaultDial is etcdctl's.
const defaultDial = 2 * time.Second

// Connection is the flags of whatever connects to an etcd, and prints what it finds there.
type Connection struct {
	// JSON is set if results are to be objects.
	JSON bool

	// Verbose is set if more is to be told.
	Verbose bool

	endpoints         []string
	cacert, cert, key string
	user              string
	dial              time.Duration
	output            string
	plain             string // the output that is no JSON
}

// Register adds the flags. plain is what output is called that is no JSON.
func (f *Connection) Register(set *pflag.FlagSet, plain string) {
	f.plain = plain
	set.StringSliceVar(&f.endpoints, "endpoints", nil, "etcd's members, as in https://etcd-0:2379,https://etcd-1:2379\n(default $ETCDCTL_ENDPOINTS, or 127.0.0.1:2379)")
	set.StringVar(&f.cacert, "cacert", "", "file of the authorities that sign the members' certificates (default $ETCDCTL_CACERT)")
	set.StringVar(&f.cert, "cert", "", "file of the certificate to show (default $ETCDCTL_CERT)")
	set.StringVar(&f.key, "key", "", "file of its key (default $ETCDCTL_KEY)")
	set.StringVar(&f.user, "user", "", "user's name; the password is asked for, unless it is in $ETCDCTL_PASSWORD (default $ETCDCTL_USER)")
	set.DurationVar(&f.dial, "dial-timeout", 0, "how long to try to connect (default $ETCDCTL_DIAL_TIMEOUT, or 2s)")
	set.StringVarP(&f.output, "output", "o", plain, "how to print: "+plain+" or json")
	set.BoolVarP(&f.Verbose, "verbose", "v", false, "tell more")
}

// Check returns an error of usage.
func (f *Connection) Check() error {
	if f.JSON = f.output == "json"; !f.JSON && f.output != f.plain {
		return fmt.Errorf("-o %s: it must be %s or json", f.output, f.plain)
	}
	if f.dial < 0 {
		return fmt.Errorf("--dial-timeout %v: it must be positive", f.dial)
	}
	return nil
}

// variables returns etcdctl's, for some of which flags stand.
func (f *Connection) variables() func(name string) string {
	given := map[string]string{}
	for name, v := range map[string]string{
		"ENDPOINTS": strings.Join(f.endpoints, ","), "CACERT": f.cacert, "CERT": f.cert, "KEY": f.key, "USER": f.user,
	} {
		if v != "" {
			given["ETCDCTL_"+name] = v
		}
	}
	if f.dial > 0 {
		given["ETCDCTL_DIAL_TIMEOUT"] = f.dial.String()
	}
	if f.user != "" { // whoever says so does not mean the token of another
		given["ETCDCTL_AUTH_JWT_TOKEN"] = ""
	}
	if strings.Contains(f.user, ":") {
		given["ETCDCTL_PASSWORD"] = ""
	}
	return func(name string) string {
		if v, ok := given[name]; ok {
			return v
		}
		return os.Getenv(name)
	}
}

// Config is how the flags and etcdctl's environment say to connect. A password that is not known is asked for.
func (f *Connection) Config(ctx context.Context, t *Terminal) (pool.Config, error) {
	get := f.variables()
	if user := get("ETCDCTL_USER"); user != "" && !strings.Contains(user, ":") && get("ETCDCTL_PASSWORD") == "" {
		password, err := t.Password(ctx, user)
		if err != nil {
			return pool.Config{}, err
		}
		known := get
		get = func(name string) string {
			if name == "ETCDCTL_PASSWORD" {
				return password
			}
			return known(name)
		}
	}
	cfg, err := pool.FromVariables(get)
	if err != nil {
		return pool.Config{}, exit.Usage(ConnectError{err})
	}
	if cfg.Retry.ConnectTimeout == 0 {
		cfg.Retry.ConnectTimeout = defaultDial
	}
	return cfg, nil
}

// Connect opens connections, as Config says.
func (f *Connection) Connect(ctx context.Context, t *Terminal) (*pool.Pool, error) {
	cfg, err := f.Config(ctx, t)
	if err != nil {
		return nil, err
	}
	p, err := pool.Open(ctx, cfg)
	if err != nil {
		return nil, ConnectError{err}
	}
	return p, nil
}

// byFlags are the names of the flags for what package pool says of its own.
var byFlags = strings.NewReplacer(
	" (from ETCDCTL_ variables)", " (from the flags or ETCDCTL_ variables)", "Config.TLS is set", "files for TLS are named",
	"TLSFiles.CA", "--cacert", "TLSFiles.Cert", "--cert", "TLSFiles.Key", "--key",
)

// ConnectError is an error of connecting: nothing was asked of etcd yet.
type ConnectError struct{ error }

// Connecting returns err as a ConnectError.
func Connecting(err error) error { return ConnectError{err} }

// Error is what package pool says, in the terms of the flags.
func (e ConnectError) Error() string { return byFlags.Replace(e.error.Error()) }

// Unwrap returns what package pool says.
func (e ConnectError) Unwrap() error { return e.error }
