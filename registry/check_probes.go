package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// maxAnswer bounds what is read of an answer to a probe; nothing in it is looked at.
	maxAnswer = 4 << 10

	// maxHeader bounds the headers of an answer, which net/http must read.
	maxHeader = 64 << 10
)

var (
	errCheckURL    = refuse("URL", errors.New("it is not http://host/path or https://host/path"))
	errCheckTarget = refuse("address", errAddr)
)

// HTTPCheck returns a check that passes if a GET of the URL is answered with a status from 200 to 399. A redirect is an
// answer, and is not followed. Each probe has a connection of its own, as one that is kept says nothing about whether the
// next is accepted; none goes through a proxy. The certificate of an https:// URL must be one that the system trusts, for
// the host in the URL; for another, write a Probe. Errors do not repeat the URL's user or query.
func HTTPCheck(rawURL string) Check {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Check{Name: "http", flaw: errCheckURL} // what the parser says quotes the URL
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return Check{Name: shown.String(), Probe: func(ctx context.Context) error {
		return probeHTTP(ctx, client, rawURL)
	}}
}

func probeHTTP(ctx context.Context, client *http.Client, rawURL string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, http.NoBody)
	if err != nil {
		return errCheckURL
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return err
	}
	// A server whose answer is not read sees its connection reset, and may log that. How the reading fails says nothing
	// more: the status has come.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// TCPCheck returns a check that passes if a connection to addr, which is host:port, is accepted. Nothing is sent.
func TCPCheck(addr string) Check {
	c := Check{Name: "tcp://" + addr, Probe: func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}}
	if !hostPort(addr) {
		c.flaw = errCheckTarget
	}
	return c
}

// GRPCCheck returns a check that asks the server at addr, which is host:port, for the health of a service by gRPC's own
// protocol (grpc.health.v1), and passes if the answer is SERVING. The empty service is the server as a whole. One
// connection, without TLS, is kept for as long as the registration lasts; for another kind write a Probe.
func GRPCCheck(addr, service string) Check {
	c := Check{Name: "grpc://" + addr + "/" + service}
	if !hostPort(addr) {
		c.flaw = errCheckTarget
		return c
	}
	c.open = func() (func(ctx context.Context) error, func()) {
		// Passed through, an address is looked up anew whenever it is dialled.
		target := url.URL{Scheme: "passthrough", Path: "/" + addr}
		conn, err := grpc.NewClient(target.String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer), grpc.WaitForReady(true)))
		if err != nil {
			return func(context.Context) error { return err }, func() {}
		}
		return func(ctx context.Context) error { return probeGRPC(ctx, conn, service) }, func() { _ = conn.Close() }
	}
	return c
}

func probeGRPC(ctx context.Context, conn *grpc.ClientConn, service string) error {
	// Left to itself a connection that failed is tried again after up to two minutes. The instance would stay out for as
	// long, though its server is back.
	conn.ResetConnectBackoff()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if s := resp.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("status %s", s)
	}
	return nil
}
