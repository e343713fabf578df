package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPlacesAreToldFromOtherKeys(t *testing.T) {
	t.Parallel()
	const lease = 0x694d7550ac3c5d06
	all := map[string]struct {
		lease int64
		value string
		line  string // that it stands in, if it does
	}{
		"lock/694d7550ac3c5d06":           {lease, "", "lock"},
		"lock/694d7550ac3c5d06-1":         {0, "", "lock"},
		"rw/~r.1-694d7550ac3c5d06-2":      {lease, "", "rw"},
		"sem/~3.2-694d7550ac3c5d06-1":     {lease, "", "sem"},
		"sem/~3.#0":                       {lease, "", ""},
		"signed/694d7550ac3c5d06-1":       {0, `{"who":"a","host":"b","pid":1,"since":"2026-11-21T09:30:00Z"}`, "signed"},
		"blobs/0123456789abcdef":          {0, "", ""},
		"blobs/fedcba9876543210":          {7, "", ""},
		"services/mail/node-1":            {lease, "", ""},
		"ports/0":                         {0, "", ""},
		"694d7550ac3c5d06":                {lease, "", ""},
		"long/00694d7550ac3c5d06aabbccdd": {lease, "", ""},
	}
	var places []place
	for key, k := range all {
		if p, ok := placeOf(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(k.value), Lease: k.lease}); ok {
			places = append(places, p)
		}
	}
	got := lines(places)
	for key, k := range all {
		in := ""
		for line, some := range got {
			if slices.ContainsFunc(some, func(p place) bool { return p.key == key }) {
				in = line
			}
		}
		if in != k.line {
			t.Errorf("%s stands in line %q, want %q", key, in, k.line)
		}
	}
}

func TestLeasesWithoutKeysAreJudgedByHowManyTheyAre(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                 string
		looked, empty, total int
		want                 Verdict
	}{
		{"none", 0, 0, 0, OK},
		{"idle sessions", 30, 15, 30, OK},
		{"some", 60, 25, 60, Warn},
		{"many beside more", 1000, 150, 1000, OK},
		{"many", 200, 120, 200, Fail},
		{"many of a sample", 1000, 900, 50_000, Fail},
		{"no time", 10, 0, 500, Skipped},
	} {
		if f := (leases{total: c.total, looked: c.looked, empty: c.empty}).finding(); f.Verdict != c.want || f.Verdict != OK && f.Remedy == "" {
			t.Errorf("%s: %+v, want %s", c.name, f, c.want)
		}
	}
	var l leases
	l.total = 3
	for _, ttl := range []clientv3.LeaseTimeToLiveResponse{{TTL: -1}, {TTL: 59, GrantedTTL: 60}, {TTL: 3, GrantedTTL: 60, Keys: [][]byte{nil}}} {
		l.add(&ttl)
	}
	if want := (leases{total: 2, looked: 2, empty: 1, renewed: 1, longest: time.Minute}); l != want {
		t.Errorf("counted %+v, want %+v", l, want)
	}
}

func TestMetricsAreRead(t *testing.T) {
	t.Parallel()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(`# TYPE a gauge
a 3
# TYPE h histogram
h_bucket{To="1",le="0.1"} 10
h_bucket{To="1",le="0.2"} 20
h_bucket{To="1",le="+Inf"} 20
h_sum{To="1"} 3
h_count{To="1"} 20
h_bucket{To="2",le="0.1"} 0
h_bucket{To="2",le="0.2"} 1
h_bucket{To="2",le="+Inf"} 2
h_sum{To="2"} 9
h_count{To="2"} 2
`))
	if err != nil {
		t.Fatal(err)
	}
	g := gauges(families)
	if v, ok := g.value("a"); v != 3 || !ok {
		t.Errorf("a is %v, %v", v, ok)
	}
	if _, ok := g.value("b"); ok {
		t.Error("b is there")
	}
	everybody := func(map[string]string) bool { return true }
	if got := g.quantiles("h", 0.75, 1, everybody); !slices.Equal(got, []time.Duration{150 * ms, 200 * ms}) {
		t.Errorf("three quarters are under %v, want 150ms, and the last bound", got)
	}
	if got := g.quantiles("h", 0.75, 10, everybody); len(got) != 1 {
		t.Errorf("%v, want the one that has as many samples", got)
	}
	if got := g.quantiles("h", 0.75, 1, func(labels map[string]string) bool { return labels["To"] == "2" }); len(got) != 1 {
		t.Errorf("%v, want the one that is wanted", got)
	}
	if got := quantile(&dto.Histogram{}, 0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
}

func TestSpreadsAreOfWhatWasMeasured(t *testing.T) {
	t.Parallel()
	var s spread
	if s.p50() != 0 || s.max() != 0 {
		t.Error("nothing took some time")
	}
	for i := range 100 {
		s = append(s, time.Duration(100-i)*ms)
	}
	if s.p50() != 51*ms || s.p90() != 91*ms || s.p99() != 100*ms || s.max() != 100*ms {
		t.Error(s)
	}
}

func TestTheRoundTripBetweenMembersIsWhatLinearizableReadsTakeLonger(t *testing.T) {
	t.Parallel()
	member := func(leads bool, near, far time.Duration) *trips {
		return &trips{site: siteOf(leads), serializable: spread{near}, linearizable: spread{far}}
	}
	// The doctor is 80 ms away from all; a follower is 30 ms away from the leader, another 10.
	all := []*trips{member(true, 80*ms, 90*ms), member(false, 80*ms, 100*ms), member(false, 80*ms, 120*ms)}
	if got := apart(all); got != 30*ms {
		t.Errorf("%v, want 30ms", got)
	}
}

func siteOf(leads bool) *site {
	s := &site{status: &pb.StatusResponse{Header: &pb.ResponseHeader{MemberId: 1}, Leader: 2}}
	if leads {
		s.status.Leader = 1
	}
	return s
}
