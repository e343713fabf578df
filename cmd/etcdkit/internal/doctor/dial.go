package doctor

import (
	"context"
	"net"
	"strings"
)

// hostOf is the host and port of an endpoint, as it is named to people and dialed.
func hostOf(endpoint string) string {
	_, address, found := strings.Cut(endpoint, "://")
	if !found {
		return endpoint
	}
	return strings.TrimSuffix(address, "/")
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
