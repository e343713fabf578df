package orders

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/etcdkit/etcdkit/registry"
	"github.com/etcdkit/etcdkit/retry"
)

// headerTimeout is how long a caller may take to say what it wants.
const headerTimeout = 5 * time.Second

// politely is the policy of a greeting, or of a mail: any failure is worth another attempt, until the other side must be taken for
// dead.
var politely = retry.Policy{Retryable: func(error) bool { return true }}

// listen opens the address that peers call, and tells who has called.
func (s *service) listen(ctx context.Context) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		s.tell(Event{Kind: Greeted, By: r.URL.Query().Get("from")})
		fmt.Fprintf(w, "hello from %s\n", s.id)
	})
	if s.metrics != nil {
		mux.Handle("GET /metrics", s.metrics)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	s.parts.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(err)
		}
	})
	context.AfterFunc(ctx, func() { _ = server.Close() }) // whoever still calls learns of the end by that
	return listener, nil
}

// meet tells whom it discovers, and greets each once.
func (s *service) meet(ctx context.Context, view *registry.View) {
	greeted := map[string]string{} // addresses, by id
	for snapshot := range view.Changes(ctx) {
		var ids []string
		for _, peer := range snapshot.Instances {
			ids = append(ids, peer.ID)
		}
		s.tell(Event{Kind: Peers, IDs: ids, Revision: snapshot.Revision})
		for _, peer := range snapshot.Instances {
			if peer.ID == s.id || greeted[peer.ID] == peer.Addr {
				continue
			}
			err := retry.Do(ctx, politely, func(ctx context.Context) error { return s.greet(ctx, peer.Addr) })
			if err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "greeting:", err)
				continue
			}
			greeted[peer.ID] = peer.Addr
		}
	}
}

// greet calls a peer at its address.
func (s *service) greet(ctx context.Context, addr string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/hello?from="+url.QueryEscape(s.id), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
