package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/retry"
)

// closeWithin bounds the closing of connections that nobody uses any more.
const closeWithin = time.Second

// open connects. It is no error if that fails for a reason that the checks can tell more about: Unreached is set then.
func (p *Patient) open(ctx context.Context, t *cli.Terminal, root string) error {
	cfg, err := p.Connection.Config(ctx, t)
	if err != nil {
		return err
	}
	p.Config, p.Endpoints = cfg, nil
	for _, endpoint := range cfg.Endpoints {
		p.Endpoints = append(p.Endpoints, withScheme(endpoint, cfg.TLS != nil))
	}
	if p.tls, err = load(cfg, secured(p.Endpoints[0])); err != nil {
		return cli.Connecting(err)
	}
	app, err := pool.Open(ctx, cfg)
	switch {
	case err == nil:
		p.Client, p.pools = app.Client(), append(p.pools, app)
	case errors.Is(err, pool.ErrNoQuorum) || errors.Is(err, pool.ErrUnreachable) && p.listening(ctx):
		p.Unreached = cli.Connecting(err)
	default:
		return cli.Connecting(err)
	}
	if root == "" || p.Client == nil {
		return nil
	}
	return p.openRoot(ctx, t, root)
}

// openRoot connects as the user who may see everything.
func (p *Patient) openRoot(ctx context.Context, t *cli.Terminal, root string) error {
	cfg := p.Config
	var given bool
	cfg.Token = ""
	if cfg.Username, cfg.Password, given = strings.Cut(root, ":"); !given {
		cfg.Password = os.Getenv("ETCDKIT_ROOT_PASSWORD")
	}
	if cfg.Password == "" {
		var err error
		if cfg.Password, err = t.Password(ctx, cfg.Username); err != nil {
			return err
		}
	}
	admin, err := pool.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("--root %s: %w", cfg.Username, cli.Connecting(err))
	}
	p.Root, p.pools = admin.Client(), append(p.pools, admin)
	return nil
}

// listening reports whether somebody does, at one of the endpoints.
func (p *Patient) listening(ctx context.Context) bool {
	for _, endpoint := range p.Endpoints {
		if conn, err := dial(ctx, endpoint); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

// close ends what was opened.
func (p *Patient) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.singles {
		_ = c.Close() // nothing is under way any more
	}
	for _, o := range p.pools {
		_ = o.Close(ctx)
	}
}

// load reads the files for TLS; nil without TLS.
func load(cfg pool.Config, secured bool) (*tls.Config, error) {
	files := cfg.TLS
	switch {
	case !secured:
		return nil, nil
	case files == nil:
		files = &pool.TLSFiles{}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.ServerName, InsecureSkipVerify: files.AnyServer} //nolint:gosec // as it was asked for, and a finding
	if files.CA != "" {
		text, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate in PEM", files.CA)
		}
	}
	if files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// denied reports whether etcd refuses to tell, as a matter of rights.
func denied(err error) bool {
	no := []error{rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthFailed}
	return slices.Contains(no, retry.EtcdError(err))
}
