package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

const (
	// expiresSoon and expiresNow are what is left of a certificate when it is time, and when there is hardly any.
	expiresSoon = 30 * cli.Day
	expiresNow  = 7 * cli.Day

	// oldestTLS is the oldest version that nobody advises against.
	oldestTLS = tls.VersionTLS12
)

// checkTLS looks at whether whoever is on the way can read, or take part.
func checkTLS(ctx context.Context, p *Patient) []Finding {
	members, err := p.Members(ctx)
	endpoints := slices.Clone(p.Endpoints)
	for _, m := range members {
		endpoints = append(endpoints, m.ClientURLs...)
	}
	slices.Sort(endpoints)
	endpoints = slices.Compact(endpoints)
	found := make([][]Finding, len(endpoints)+1)
	var examined sync.WaitGroup
	for i, endpoint := range endpoints {
		examined.Go(func() { found[i] = p.examineEndpoint(ctx, endpoint) })
	}
	examined.Go(func() { found[len(endpoints)] = p.examinePeers(ctx, members, err) })
	examined.Wait()
	findings := append(slices.Concat(found...), p.examineOwn()...)
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	return findings
}

// rank puts certificates behind connections.
func rank(f Finding) int { return strings.Count(f.Subject, "certificate") }

// examineEndpoint looks at where clients connect.
func (p *Patient) examineEndpoint(ctx context.Context, endpoint string) []Finding {
	host := cli.Visible(hostOf(endpoint))
	c := p.tlsFor(endpoint)
	if strings.HasPrefix(endpoint, "unix") {
		return []Finding{{Verdict: OK, Subject: host, Reason: "a socket of this machine: nobody is on the way"}}
	}
	if !secured(endpoint) {
		f := Finding{Verdict: Fail, Subject: host, Reason: "clients connect without TLS: passwords, tokens and values can be read and changed on the way"}
		f.Evidence = []string{"its address is " + cli.Visible(endpoint)}
		f.Remedy = "Start the member with --cert-file, --key-file, --trusted-ca-file, --client-cert-auth and https:// in --listen-client-urls and --advertise-client-urls."
		if look(ctx, endpoint, c).chain != nil {
			f.Reason, f.Remedy = "it speaks TLS, and is named without", "Name it https://"+host+"."
		}
		return []Finding{f}
	}
	made := handshake(ctx, endpoint, c)
	seen := made
	if made.err != nil && made.chain == nil {
		seen = look(ctx, endpoint, c)
	}
	if made.err != nil {
		return []Finding{untrusted(ctx, endpoint, made, seen)}
	}
	findings := []Finding{p.judgeEncryption(ctx, endpoint, c)}
	findings = append(findings, judgeExpiry("certificate of "+host, made.chain))
	if c.InsecureSkipVerify {
		findings = append(findings, Finding{
			Verdict: Fail, Subject: host, Reason: "its certificate is not verified: anybody in between can be the member",
			Evidence: []string{"ETCDCTL_INSECURE_SKIP_TLS_VERIFY is set"}, Remedy: "Unset it, and give the authority: --cacert.",
		})
	}
	return findings
}

// judgeEncryption says who is let in, and how.
func (p *Patient) judgeEncryption(ctx context.Context, endpoint string, c *tls.Config) Finding {
	f := Finding{Verdict: OK, Subject: cli.Visible(hostOf(endpoint))}
	versions := offered(ctx, endpoint, c)
	f.Evidence = []string{"versions it agrees to: " + versionNames(versions)}
	switch {
	case len(versions) > 0 && slices.Min(versions) < oldestTLS:
		f.Verdict, f.Reason = Fail, "it agrees to versions of TLS that are broken"
		f.Remedy = "Have whoever ends TLS there (a proxy? etcd does not offer them) refuse what is older than TLS 1.2."
	case asClient.lets(ctx, endpoint, nil):
		f.Verdict, f.Reason = Fail, "it lets clients in without TLS as well"
		f.Remedy = "Have only https:// in --listen-client-urls."
	case asClient.lets(ctx, endpoint, anonymous(c)):
		f.Verdict, f.Reason = Fail, "it lets clients in without a certificate: whoever reaches it can try passwords"
		f.Remedy = "Start the member with --client-cert-auth and --trusted-ca-file."
	case len(c.Certificates) == 0:
		f.Verdict, f.Reason, f.Remedy = Fail, "it demands a certificate, and there is none to show", "Give the application's: --cert and --key."
	case !asClient.lets(ctx, endpoint, c):
		f.Verdict, f.Reason, f.Remedy = Fail, "it does not take the certificate that it is shown", "Give one that its --trusted-ca-file has signed: --cert and --key."
	default:
		f.Reason = "encrypted, with " + versionNames(versions) + "; clients without TLS or without a certificate are refused"
	}
	return f
}

// versionNames are the names of versions of TLS.
func versionNames(versions []uint16) string {
	var names []string
	for _, v := range versions {
		names = append(names, tls.VersionName(v))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " and ")
}

// untrusted explains a handshake that failed.
func untrusted(ctx context.Context, endpoint string, made, seen shaken) Finding {
	host := cli.Visible(hostOf(endpoint))
	f := Finding{Verdict: Fail, Subject: host, Evidence: []string{inLine(made.err)}}
	if len(seen.chain) > 0 {
		f.Evidence = append(f.Evidence, "it shows "+describe(seen.chain[0]))
	}
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		network   *net.OpError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(made.err, &name):
		f.Reason = "its certificate is for other names"
		f.Remedy = "Issue it for " + name.Host + " as well (as a subject alternative name), or connect by a name that it has."
	case errors.As(made.err, &authority):
		f.Reason = "its certificate is of an authority that is not trusted here"
		f.Remedy = "Give the authority that signed it: --cacert."
	case errors.As(made.err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		f.Reason, f.Remedy = "its certificate is not valid yet", "Look at the clocks, here and where it was issued."
	case errors.As(made.err, &invalid) && invalid.Reason == x509.Expired:
		f.Reason, f.Remedy = "its certificate has expired", "Renew it: etcd reads it again by itself."
	case errors.As(made.err, &invalid):
		f.Reason, f.Remedy = "its certificate may not be used for this", "Issue it for server authentication, and the authority's as one."
	case errors.As(made.err, &record) || asClient.lets(ctx, endpoint, nil):
		f.Reason = "it does not speak TLS: passwords, tokens and values can be read and changed on the way"
		f.Remedy = "Start the member with --cert-file, --key-file, --trusted-ca-file, --client-cert-auth and https:// in --listen-client-urls."
	case errors.As(made.err, &network) && network.Op == "remote error":
		f.Reason = "it does not take the certificate that it is shown, or there is none"
		f.Remedy = "Give one that its --trusted-ca-file has signed: --cert and --key."
	default:
		f.Verdict, f.Reason, f.Remedy = Skipped, "it does not answer", "See check 4."
	}
	return f
}

// describe is a certificate in a line.
func describe(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	text := "the certificate " + c.Subject.String()
	if len(names) > 0 {
		text += " for " + strings.Join(names, ", ")
	}
	return cli.Visible(text + ", until " + c.NotAfter.UTC().Format(time.DateOnly))
}

// judgeExpiry says whether a certificate, or one of those that vouch for it, will soon be over.
func judgeExpiry(subject string, chain []*x509.Certificate) Finding {
	c := firstToExpire(chain)
	left := time.Until(c.NotAfter)
	f := Finding{Verdict: OK, Subject: subject, Evidence: []string{describe(c)}}
	when := fmt.Sprintf("in %s, on %s", days(left), c.NotAfter.UTC().Format(time.DateOnly))
	f.Remedy = "Renew it now: etcd reads it again by itself, as etcdkit's clients do. And have it renewed by a machine."
	switch {
	case left <= 0:
		f.Verdict, f.Reason = Fail, "it has expired on "+c.NotAfter.UTC().Format(time.DateOnly)
	case left < expiresNow:
		f.Verdict, f.Reason = Fail, "it expires "+when
	case left < expiresSoon:
		f.Verdict, f.Reason = Warn, "it expires "+when
	default:
		f.Reason, f.Remedy = "valid for "+days(left)+", and for this name", ""
	}
	return f
}

// days is a long time as people say it.
func days(d time.Duration) string {
	if d < 2*cli.Day {
		return cli.Plural(int(d.Hours()), "hour", "hours")
	}
	return cli.Plural(int(d/cli.Day), "day", "days")
}

// examineOwn looks at the certificate that is shown to members.
func (p *Patient) examineOwn() []Finding {
	if p.tls == nil || len(p.tls.Certificates) == 0 {
		return nil
	}
	var chain []*x509.Certificate
	for _, der := range p.tls.Certificates[0].Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	f := judgeExpiry("client's certificate", chain)
	f.Reason = strings.TrimSuffix(f.Reason, ", and for this name")
	return []Finding{f}
}

// examinePeers looks at where members connect to each other.
func (p *Patient) examinePeers(ctx context.Context, members []*pb.Member, err error) []Finding {
	if err != nil {
		return []Finding{{
			Verdict: Skipped, Subject: "peers", Reason: "which addresses members connect to is not known", Evidence: []string{inLine(err)}, Remedy: "Examine again when the cluster can be asked.",
		}}
	}
	var plain, unseen, well []string
	var findings []Finding
	for _, m := range members {
		for _, u := range m.PeerURLs {
			host := cli.Visible(hostOf(u))
			if !secured(u) {
				plain = append(plain, cli.Visible(u))
				continue
			}
			seen := look(ctx, u, anonymous(p.tlsFor(u)))
			if len(seen.chain) == 0 {
				unseen = append(unseen, host)
				continue
			}
			if f := judgeExpiry("peers' certificate of "+host, seen.chain); f.Verdict != OK {
				findings = append(findings, f)
				continue
			}
			if asPeer.lets(ctx, u, anonymous(p.tlsFor(u))) {
				findings = append(findings, Finding{
					Verdict: Fail, Subject: host, Reason: "it lets members in without a certificate: whoever reaches it can be one",
					Remedy: "Start the member with --peer-client-cert-auth and --peer-trusted-ca-file.",
				})
				continue
			}
			well = append(well, host)
		}
	}
	if len(plain) > 0 {
		findings = append(findings, Finding{
			Verdict: Fail, Subject: "peers", Reason: "members talk to each other without TLS: whoever reaches them reads everything, and can be one", Evidence: plain,
			Remedy: "Give them --peer-cert-file, --peer-key-file, --peer-trusted-ca-file and --peer-client-cert-auth, and https:// peer URLs: etcdctl member update ID --peer-urls=https://...",
		})
	}
	if len(unseen) > 0 {
		findings = append(findings, Finding{
			Verdict: Skipped, Subject: "peers' certificates", Reason: "these addresses cannot be reached from here, or are of members that are down", Evidence: unseen,
			Remedy: "Examine from a machine of the members' network.",
		})
	}
	if len(well) > 0 {
		findings = append(findings, Finding{
			Verdict: OK, Subject: "peers", Reason: "members talk to each other with TLS, and refuse who has no certificate", Evidence: well,
		})
	}
	return findings
}
