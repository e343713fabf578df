package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/roles"
)

// expect compares a finding's verdict, and looks for words in what it says.
func expect(t *testing.T, f Finding, want Verdict, words string) {
	t.Helper()
	said := f.Subject + ": " + f.Reason + "\n" + strings.Join(f.Evidence, "\n") + "\n" + f.Remedy
	if f.Verdict != want || !strings.Contains(said, words) || want != OK && f.Remedy == "" {
		t.Errorf("%s: %s; want %s: %q", f.Verdict, said, want, words)
	}
}

func TestAVersionIsJudgedByTheTable(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]struct {
		verdict Verdict
		words   string
	}{
		"3.7.1":         {OK, "at or above 3.7.1"},
		"3.7.3":         {OK, floorsOn},
		"3.7.0":         {Fail, "GHSA-xg4h-6gfc-h4m8"},
		"3.7.1-rc.0":    {Fail, "Upgrade every member to 3.7.1"},
		"3.6.14":        {OK, ""},
		"3.6.13":        {Fail, "CVE-2026-73500"},
		"3.5.33":        {OK, ""},
		"3.5.32":        {Fail, "3.5.33 is the least"},
		"3.4.44":        {Fail, "etcd mends 3.4 no more"},
		"3.8.0":         {Skipped, "does not know 3.8"},
		"4.0.0-alpha.1": {Skipped, "does not know 4.0"},
		"":              {Skipped, "no version"},
		"3.6":           {Skipped, "no version"},
		"3.6.-1":        {Skipped, "no version"},
		"3.x.1":         {Skipped, "no version"},
	} {
		t.Run(version, func(t *testing.T) { expect(t, judgeVersion(version), want.verdict, want.words) })
	}
	if _, ok := floors[oldest]; !ok {
		t.Error("the oldest release has no floor")
	}
}

func TestTheNumberOfVotersIsJudged(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]struct {
		verdict Verdict
		words   string
	}{
		1: {Warn, "there is only one"}, 2: {Fail, "survive the loss of 0, as 1 would"}, 3: {OK, "the loss of 1"}, 4: {Fail, "to have 5 or 3"},
		5: {OK, "the loss of 2"}, 7: {OK, "the loss of 3"}, 9: {Warn, "every write waits for 5"},
	} {
		members := []*pb.Member{{IsLearner: true}}
		for range n {
			members = append(members, &pb.Member{})
		}
		expect(t, judgeVoters(members), want.verdict, want.words)
	}
}

func TestMembersThatClaimTheSameAreFound(t *testing.T) {
	t.Parallel()
	a := &pb.Member{ID: 1, Name: "a", PeerURLs: []string{"https://a:2380"}, ClientURLs: []string{"https://a:2379"}}
	b := &pb.Member{ID: 2, Name: "b", PeerURLs: []string{"https://b:2380"}, ClientURLs: []string{"https://b:2379"}}
	expect(t, judgeNames([]*pb.Member{a, b, {ID: 3}, {ID: 4}})[0], OK, "no two members")
	b.Name, b.PeerURLs = "a", []string{"https://a:2380"}
	found := judgeNames([]*pb.Member{a, b})
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	for _, f := range found {
		expect(t, f, Fail, "members 1, 2")
	}
}

func TestAddressesThatLeadNowhereAreFound(t *testing.T) {
	t.Parallel()
	members := []*pb.Member{{Name: "a", ClientURLs: []string{"https://10.0.0.1:2379"}}, {Name: "b", ClientURLs: []string{"https://localhost:2379"}, PeerURLs: []string{"https://0.0.0.0:2380"}}}
	found := judgeAddresses([]string{"https://10.0.0.1:2379"}, members)
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	expect(t, found[0], Warn, "b: it announces https://localhost:2379")
	expect(t, found[1], Warn, "0.0.0.0")
	if found := judgeAddresses([]string{"https://[::1]:2379"}, members); found != nil {
		t.Errorf("from there they lead to it: %+v", found)
	}
}

// member is one that answers.
func member(id uint64, status *pb.StatusResponse) *peer {
	return &peer{Member: &pb.Member{ID: id, Name: string(rune('a' + id)), ClientURLs: []string{"x"}}, status: status}
}

func TestVersionsAndLearnersAreJudged(t *testing.T) {
	t.Parallel()
	all := []*peer{member(1, &pb.StatusResponse{Version: "3.7.3", RaftIndex: 1000, RaftAppliedIndex: 1000}), member(2, &pb.StatusResponse{Version: "3.7.2", RaftIndex: 1000})}
	found := judgeVersions(all)
	expect(t, found[len(found)-1], Warn, "members run different ones")
	all[1].status.Version, all[1].status.DowngradeInfo = "3.7.3", &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}
	found = judgeVersions(all)
	expect(t, found[len(found)-1], Warn, "taken back to 3.6.0")

	all[1].IsLearner, all[1].status.RaftAppliedIndex = true, 800
	expect(t, judgeLearners(all)[0], Warn, "it is behind, with 800 of 1000")
	all[1].status.RaftAppliedIndex = 950
	expect(t, judgeLearners(all)[0], OK, "etcdctl member promote 2")
	all[1].status, all[1].err = nil, errors.New("refused")
	expect(t, judgeLearners(all)[0], Warn, "it does not answer")
}

func TestTheQuorumsMarginIsJudged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		voters, down int
		want         Verdict
		words        string
	}{
		{1, 0, OK, "none may fail"},
		{2, 0, Warn, "not one more"},
		{3, 0, OK, "one member may fail"},
		{3, 1, Fail, "not one more"},
		{3, 2, Fail, "it is lost"},
		{5, 1, OK, "one member may"},
		{5, 0, OK, "2 members may"},
		{5, 2, Fail, "not one more"},
	} {
		var all []*peer
		for i := range test.voters {
			one := member(uint64(i+1), &pb.StatusResponse{})
			if i < test.down {
				one.status, one.err = nil, errors.New("refused")
			}
			all = append(all, one)
		}
		learner := member(9, nil)
		learner.IsLearner, learner.err = true, errors.New("refused")
		expect(t, judgeQuorum(append(all, learner), true), test.want, test.words)
	}
	expect(t, judgeQuorum([]*peer{member(1, &pb.StatusResponse{})}, false), Skipped, "is not known")
}

func TestTheLeaderAndTheLagAreJudged(t *testing.T) {
	t.Parallel()
	of := func(leaders ...uint64) (all []*peer) {
		for i, l := range leaders {
			all = append(all, member(uint64(i+1), &pb.StatusResponse{Leader: l}))
		}
		return all
	}
	expect(t, judgeLeader(of(1, 1, 1)), OK, "b leads, say b, c, d")
	expect(t, judgeLeader(of(1, 1, 2)), Fail, "do not agree")
	expect(t, judgeLeader(of(1, 0)), Fail, "nobody leads, say c")
	expect(t, judgeLeader(nil), Skipped, "no member tells")

	all := of(1, 1)
	for applied, want := range map[uint64]Verdict{10_000: OK, 9_500: OK, 9_000: Warn, 5_000: Fail} {
		all[0].status.RaftIndex, all[0].status.RaftAppliedIndex, all[1].status.RaftAppliedIndex = 10_000, 10_000, applied
		expect(t, judgeLag(all), want, "c has applied")
	}
	all[1].IsLearner = true
	expect(t, judgeLag(all), OK, "")
}

func TestRightsAreComparedToWhatWasDeclared(t *testing.T) {
	t.Parallel()
	n, err := declare([]string{"config-reader=limits"}, []string{"app/"})
	if err != nil || !n.declared {
		t.Fatal(err)
	}
	of := func(a roles.Access, from, to string) roles.Permission {
		return roles.Permission{Access: a, Key: from, End: to}
	}
	have := append([]roles.Permission{}, n.perms...)
	if much, less := n.tooMuch(have), n.missing(have); much != nil || less != nil {
		t.Errorf("%v, %v", much, less)
	}
	for _, test := range []struct {
		wide  roles.Permission
		words string
	}{
		{of(roles.ReadWrite, "app", "app0"), `read and write from "app" to "app0"`},
		{of(roles.ReadWrite, "app", "apq"), `read and write what begins with "app"`},
		{of(roles.Write, "b", ""), `write "b"`},
		{of(roles.Read, "app/", "\x00"), `read everything from "app/" on`},
		{of(roles.Read, "\x00", "\x00"), "read every key there is"},
	} {
		much := n.tooMuch(append(have, test.wide))
		if len(much) != 1 || inWords(much[0]) != test.words {
			t.Errorf("%v: %v, want %s", test.wide, much, test.words)
		}
	}
	// Half of what is granted may be too much.
	if much := n.tooMuch([]roles.Permission{{Access: roles.ReadWrite, Key: n.perms[0].Key, End: n.perms[0].End}}); len(much) != 1 || much[0].Access != roles.Write {
		t.Errorf("%v", much)
	}
	if less := n.missing([]roles.Permission{of(roles.Read, "\x00", "\x00")}); len(less) != 1 || less[0].Access != roles.Write || less[0].For != "keys app/" {
		t.Errorf("%v", less)
	}
}

// listen serves TLS as cfg has it, to whoever connects, and returns the endpoint.
func listen(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.SetDeadline(time.Now().Add(askWithin))
				_, _ = conn.Read(make([]byte, 1)) // the handshake
				_ = conn.Close()
			}()
		}
	}()
	return "https://" + l.Addr().String()
}

func TestVersionsOfTLSThatAreBrokenAreFound(t *testing.T) {
	t.Parallel()
	p := &Patient{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	old := listen(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12})
	expect(t, p.judgeEncryption(t.Context(), old, p.tlsFor(old)), Fail, "versions it agrees to: TLS 1.0 and TLS 1.1 and TLS 1.2")
	now := listen(t, &tls.Config{MinVersion: tls.VersionTLS13})
	f := p.judgeEncryption(t.Context(), now, p.tlsFor(now))
	if strings.Join(f.Evidence, "") != "versions it agrees to: TLS 1.3" {
		t.Errorf("%+v", f)
	}
}

func TestExpiryIsThatOfTheFirstInTheChain(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) *x509.Certificate {
		return &x509.Certificate{NotAfter: time.Now().Add(d + time.Minute)}
	}
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]struct {
		verdict Verdict
		words   string
	}{
		-day: {Fail, "it has expired on"}, 5 * time.Hour: {Fail, "in 5 hours"}, 6 * day: {Fail, "in 6 days"}, 8 * day: {Warn, "in 8 days"},
		29 * day: {Warn, "in 29 days"}, 31 * day: {OK, "valid for 31 days"},
	} {
		expect(t, judgeExpiry("certificate", []*x509.Certificate{in(365 * day), in(left)}), want.verdict, want.words)
	}
}

func TestFindingsInTheSameWordsArePrintedOnce(t *testing.T) {
	t.Parallel()
	got := merged([]Finding{
		{OK, "certificate of a", "valid", []string{"1"}, ""},
		{Fail, "b", "plain", nil, "mend"},
		{OK, "certificate of b", "valid", []string{"2"}, ""},
		{Fail, "c", "plain", nil, "mend"},
		{OK, "certificate", "valid", nil, ""},
		{Fail, "c", "plain", nil, "mend otherwise"},
	})
	if len(got) != 3 || got[0].Subject != "certificate of a, b, certificate" || len(got[0].Evidence) != 2 || got[1].Subject != "b, c" || got[2].Remedy != "mend otherwise" {
		t.Errorf("%+v", got)
	}
}

func TestEndpointsAreNamedAsMembersAnnounceTheirs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a:1": "http://a:1", "HTTP://a:1/": "http://a:1", "https://a:1": "https://a:1", "unix:///a": "unix:///a", "unix:/a": "unix:/a",
	} {
		if got := withScheme(in, false); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
	if got := withScheme("a:1", true); got != "https://a:1" {
		t.Errorf("%q", got)
	}
}

func TestAFigureIsReadFromMetrics(t *testing.T) {
	t.Parallel()
	page := []byte("# TYPE up gauge\nuptime 3\nup 4.5e+00\nbad x\n")
	if v, ok := figure(page, "up"); v != 4.5 || !ok {
		t.Error(v, ok)
	}
	if _, ok := figure(page, "bad"); ok {
		t.Error("bad")
	}
	if _, ok := figure(page, "down"); ok {
		t.Error("down")
	}
}
