package doctor

import (
	"context"
	"net"
	"strings"
)

// hostOf is the host and port of an endpoint, as it is named to people and dialed.
func hostOf(endpoint string) string {
	if _, address, found := strings.Cut(endpoint, "://"); found {
		return strings.TrimSuffix(address, "/")
	}
	return strings.TrimPrefix(endpoint, "unix:")
}

// withScheme is an endpoint as members announce theirs; one that says nothing of TLS is with it if there are files for it.
func withScheme(endpoint string, files bool) string {
	if strings.HasPrefix(endpoint, "unix") {
		return endpoint
	}
	scheme, address, found := strings.Cut(endpoint, "://")
	switch {
	case found:
		return strings.ToLower(scheme) + "://" + strings.TrimSuffix(address, "/")
	case files:
		return "https://" + endpoint
	}
	return "http://" + endpoint
}

// dial opens a network connection to an endpoint.
func dial(ctx context.Context, endpoint string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(endpoint, "unix") {
		network = "unix"
	}
	return (&net.Dialer{}).DialContext(ctx, network, hostOf(endpoint))
}
