package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// mostPage bounds what a member may say on a page: metrics have some 200 KiB.
const mostPage = 16 << 20

// Why a member does not take part in a conversation, in the words of package tls's errors: see distrusted.
var (
	errNamedPlain = errors.New("tls: it speaks TLS, and is named without")
	errRefusedUs  = errors.New("tls: it does not take the certificate that it is shown, or there is none")
)

// peer is a member with its answer.
type peer struct {
	*pb.Member
	endpoint string             // where it answered, or was asked last
	status   *pb.StatusResponse // nil if there is none
	err      error              // why there is none
	health   string             // what it says of its health where it gives no status, and to everybody; "" if nothing
}

// title is what a member is called.
func (p *peer) title() string {
	switch {
	case p.Name != "" && p.endpoint != "":
		return cli.Visible(p.Name) + " (" + cli.Visible(hostOf(p.endpoint)) + ")"
	case p.Name != "":
		return cli.Visible(p.Name)
	case p.endpoint != "":
		return cli.Visible(hostOf(p.endpoint))
	}
	return fmt.Sprintf("member %x", p.ID)
}

// up reports whether the member answers, be it with a refusal.
func (p *peer) up() bool { return p.status != nil || p.health != "" || denied(p.err) }

// peers asks every member for its status, at once. Where the members cannot be listed, they are those that were given; the error says
// why.
func (p *Patient) peers(ctx context.Context) ([]*peer, error) {
	members, err := p.Members(ctx)
	var all []*peer
	for _, m := range members {
		all = append(all, &peer{Member: m})
	}
	if err != nil {
		for _, endpoint := range p.Endpoints {
			all = append(all, &peer{Member: &pb.Member{ClientURLs: []string{endpoint}}})
		}
	}
	slices.SortFunc(all, func(a, b *peer) int { return cmp.Compare(a.Name, b.Name) })
	var asked sync.WaitGroup
	for _, one := range all {
		asked.Go(func() { p.question(ctx, one) })
	}
	asked.Wait()
	return all, err
}

// question asks a member for its status, at each of its addresses until it answers.
func (p *Patient) question(ctx context.Context, one *peer) {
	one.err = errors.New("it has no address for clients: it has never started")
	for _, endpoint := range slices.Sorted(slices.Values(one.ClientURLs)) {
		one.endpoint = endpoint
		c, err := p.At(ctx, endpoint)
		if err != nil {
			one.err = err
			continue
		}
		asking, cancel := context.WithTimeout(ctx, askWithin)
		one.status, one.err = statusOf(asking, c)
		cancel()
		if one.err == nil {
			return
		}
		if denied(one.err) {
			one.health = p.healthOf(ctx, endpoint)
			return
		}
		one.err = p.why(ctx, endpoint, one.err)
	}
}

// why is why a member does not answer, in better words than gRPC's if there are some.
func (p *Patient) why(ctx context.Context, endpoint string, err error) error {
	conn, failed := dial(ctx, endpoint)
	if failed != nil {
		return failed
	}
	_ = conn.Close() // it was only tried
	c := p.tlsFor(endpoint)
	switch {
	case !secured(endpoint) && look(ctx, endpoint, c).chain != nil:
		return errNamedPlain
	case secured(endpoint):
		if made := handshake(ctx, endpoint, c); made.err != nil {
			err = fmt.Errorf("TLS: %w", made.err)
		} else if asClient.refuses(ctx, endpoint, c) {
			return errRefusedUs
		}
	}
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it takes connections, and has not answered for %v: it hangs, or its machine does", askWithin)
	}
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}

// distrusted reports whether a member was not asked because one side does not take the other's certificate, or has none.
func distrusted(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error() // gRPC makes text of what it was
	return strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ")
}

// healthOf is what a member says of its health over HTTP, where nobody has to log in.
func (p *Patient) healthOf(ctx context.Context, endpoint string) string {
	page, err := p.get(ctx, endpoint, "/health?serializable=false")
	var said struct{ Health, Reason string }
	if err != nil || json.Unmarshal(page, &said) != nil || said.Health == "" {
		return ""
	}
	if said.Health == "true" {
		return "healthy"
	}
	return "unhealthy: " + cli.Visible(said.Reason)
}

// leaderChanges are the most that a member has seen, and how long it has been up; zero if no member tells.
func (p *Patient) leaderChanges(ctx context.Context, all []*peer) (changes int, up time.Duration) {
	for _, one := range all {
		if one.status == nil {
			continue
		}
		page, err := p.get(ctx, one.endpoint, "/metrics")
		if err != nil {
			continue
		}
		seen, known := figure(page, "etcd_server_leader_changes_seen_total")
		began, dated := figure(page, "process_start_time_seconds")
		if known && dated && (up == 0 || int(seen) > changes) {
			changes, up = int(seen), time.Since(time.Unix(int64(began), 0))
		}
	}
	return changes, up
}

// figure is the value of a metric without labels.
func figure(page []byte, name string) (float64, bool) {
	for line := range bytes.Lines(page) {
		if value, found := bytes.CutPrefix(line, []byte(name+" ")); found {
			v, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			return v, err == nil
		}
	}
	return 0, false
}

// get reads a page of a member, which may say on it that it is not well.
func (p *Patient) get(ctx context.Context, endpoint, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	scheme := "http://"
	if secured(endpoint) {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+hostOf(endpoint)+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	// A page elsewhere is not the member's, and would be shown the certificate.
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: p.TLS(), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(resp.Body, mostPage))
}
