package main

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/etcdkit/etcdkit/registry"
)

// maxSends is how often a request that may be sent twice is sent at the most.
const maxSends = 3

// forwardTo returns a handler that sends requests to the instances of a service. The name of the service, which the gateway's
// own paths begin with, is off their paths already.
func forwardTo(service string, transport *registry.Transport) http.Handler {
	return &httputil.ReverseProxy{
		Transport: sendAgain{transport},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", service // the Transport makes an instance's address of it
			r.Out.Host = service
			r.SetXForwarded()
		},
		ModifyResponse: func(resp *http.Response) error {
			if at := resp.Header.Get("Location"); strings.HasPrefix(at, "/") && !strings.HasPrefix(at, "//") {
				resp.Header.Set("Location", "/"+service+at)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the caller has gone
			}
			log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
			if errors.Is(err, registry.ErrNoInstances) {
				w.Header().Set("Retry-After", "1")
				http.Error(w, fmt.Sprintf("no instance of the service %q takes requests", service), http.StatusServiceUnavailable)
				return
			}
			http.Error(w, fmt.Sprintf("the service %q did not answer", service), http.StatusBadGateway)
		},
	}
}

// sendAgain sends a GET or a HEAD again if an instance broke off before it has answered. The Transport by itself sends
// again only what has reached no instance: whether the rest may be done twice is for its caller to say.
type sendAgain struct {
	to *registry.Transport
}

func (s sendAgain) RoundTrip(r *http.Request) (*http.Response, error) {
	harmless := (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.Body == nil || r.Body == http.NoBody)
	for sent := 1; ; sent++ {
		resp, err := s.to.RoundTrip(r)
		if err == nil || !harmless || sent == maxSends || r.Context().Err() != nil || errors.Is(err, registry.ErrNoInstances) {
			return resp, err
		}
	}
}
