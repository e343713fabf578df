package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// configCanary is in every value of these tests, also in the refused ones, in errors of Validate, and in names below a prefix.
const configCanary = "c4n4ry-5e1d"

// configLimits is what the documents of these tests are.
type configLimits struct{ Rate int }

// configValidate refuses a negative rate, and says more than it should.
func configValidate(l configLimits) error {
	if l.Rate < 0 {
		return fmt.Errorf("%s: the rate is %d", configCanary, l.Rate)
	}
	return nil
}

// configDocument is one with a rate.
func configDocument(rate int) string {
	return fmt.Sprintf(`{"rate": %d, "password": %q}`, rate, configCanary)
}

// configPut puts a key, and returns the revision.
func configPut(t *testing.T, key, document string) float64 {
	t.Helper()
	resp, err := etcdtest.Client(t).Put(t.Context(), key, document)
	if err != nil {
		t.Fatal(err)
	}
	return float64(resp.Header.GetRevision())
}

// configOpen opens a Value until the test ends.
func configOpen(t *testing.T, cli *clientv3.Client, key string, opts *config.Options[configLimits]) *config.Value[configLimits] {
	t.Helper()
	v, err := config.Open(t.Context(), cli, key, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// configReads waits until what is reported of a key is a revision, and how many documents are refused and were.
func configReads(t *testing.T, key string, applied, rejecting, rejected float64) {
	t.Helper()
	etcdtest.Eventually(t, gaugeSoon, "refused documents are counted", func(context.Context) error {
		if n := value(t, "etcdkit.config.rejected", "etcdkit.config.key", key); n != rejected {
			return fmt.Errorf("%v were, want %v", n, rejected)
		}
		return nil
	})
	gaugeReads(t, rejecting, "etcdkit.config.rejecting", "etcdkit.config.key", key)
	gaugeReads(t, applied, "etcdkit.config.applied_revision", "etcdkit.config.key", key)
}

// configGone fails the test if a key is still in a gauge, or a value in any metric.
func configGone(t *testing.T, key string) {
	t.Helper()
	gaugeGone(t, "etcdkit.config.applied_revision", "etcdkit.config.key", key)
	gaugeGone(t, "etcdkit.config.rejecting", "etcdkit.config.key", key)
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("%+v", all)
	if !strings.Contains(said, key) {
		t.Errorf("what was refused of %q is in no metric: nothing is proved", key)
	}
	if strings.Contains(said, configCanary) {
		t.Error("what is in a document is in a metric")
	}
	for _, span := range spans.Ended() {
		if strings.Contains(fmt.Sprintf("%+v", span), configCanary) {
			t.Errorf("what is in a document is in span %q", span.Name())
		}
	}
}

func TestADocumentIsReportedAsInForceOrRefused(t *testing.T) {
	key := etcdtest.Prefix(t) + "limits"
	cut := etcdtest.Shared(t).Link(0)
	v := configOpen(t, cut.Client(), key, &config.Options[configLimits]{Default: &configLimits{}, Validate: configValidate})
	configReads(t, key, 0, 0, 0) // the default's
	first := configPut(t, key, configDocument(1))
	configReads(t, key, first, 0, 0)

	// The last good one stays in force, whether the others cannot be read or are not wanted.
	configPut(t, key, configDocument(-1))
	configReads(t, key, first, 1, 1)
	configPut(t, key, `{"rate": "`+configCanary)
	configReads(t, key, first, 1, 2)
	mended := configPut(t, key, configDocument(2))
	configReads(t, key, mended, 0, 2)

	// Somebody deletes the key by mistake: nothing is refused, and nothing changes.
	if _, err := etcdtest.Client(t).Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	configErr(t, v, config.ErrAbsent)
	configReads(t, key, mended, 0, 2)

	// What is refused is counted once, however often it is read.
	configPut(t, key, configDocument(-3))
	configReads(t, key, mended, 1, 3)
	cut.Cut()
	configErr(t, v, config.ErrNotCurrent)
	configReads(t, key, mended, 1, 3)
	cut.Heal()
	etcdtest.Eventually(t, gaugeSoon, "it is current", func(context.Context) error {
		if err := v.Err(); errors.Is(err, config.ErrNotCurrent) {
			return err
		}
		return nil
	})
	configReads(t, key, mended, 1, 3)
	v.Close()
	configGone(t, key)
}

// configErr waits until Err of a Value is an error.
func configErr(t *testing.T, v *config.Value[configLimits], want error) {
	t.Helper()
	etcdtest.Eventually(t, gaugeSoon, fmt.Sprintf("Err is %v", want), func(context.Context) error {
		if err := v.Err(); !errors.Is(err, want) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
}

// A Value that was never opened has nothing in force; that its document was refused counts.
func TestAValueThatDoesNotOpenIsInNoGauge(t *testing.T) {
	key := etcdtest.Prefix(t) + "limits"
	configPut(t, key, configDocument(-1))
	_, err := config.Open(t.Context(), etcdtest.Client(t), key, &config.Options[configLimits]{Validate: configValidate})
	if !errors.Is(err, config.ErrRefused) {
		t.Fatalf("Open: %v", err)
	}
	if n := value(t, "etcdkit.config.rejected", "etcdkit.config.key", key); n != 1 {
		t.Errorf("%v documents were refused, want 1", n)
	}
	configGone(t, key)
}

// Two parts of a program read one key, and one of them does not take what the other does.
func TestOfSeveralValuesOfAKeyTheOneBehindIsReported(t *testing.T) {
	key := etcdtest.Prefix(t) + "limits"
	cli := etcdtest.Client(t)
	first := configPut(t, key, configDocument(1))
	lax := configOpen(t, cli, key, nil)
	strict := configOpen(t, cli, key, &config.Options[configLimits]{Validate: configValidate})
	second := configPut(t, key, configDocument(-1))
	etcdtest.Eventually(t, gaugeSoon, "one of them takes the document", func(context.Context) error {
		if got := lax.Get().Rate; got != -1 {
			return fmt.Errorf("the rate is %d", got)
		}
		return nil
	})
	configReads(t, key, first, 1, 1)
	strict.Close()
	configReads(t, key, second, 0, 1)
	lax.Close()
	configGone(t, key)
}

// Names of keys below a prefix have no bound: a tree and a Map are reported under what they were opened with.
func TestTreesAndMapsAreReportedByTheirPrefixes(t *testing.T) {
	under := strings.TrimSuffix(etcdtest.Prefix(t), "/")
	cli := etcdtest.Client(t)
	base, prod, tenants := under+"/base", under+"/prod", under+"/tenants"
	good := configPut(t, base+"/rate", "1")
	tree, err := config.OpenTree[configLimits](t.Context(), cli, []string{base, prod}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	both := base + ", " + prod
	configReads(t, both, good, 0, 0)
	configPut(t, prod+"/rate", configCanary)
	configReads(t, both, good, 1, 1)
	mended := configPut(t, prod+"/rate", "2")
	configReads(t, both, mended, 0, 1)
	tree.Close()
	configGone(t, both)

	one := configPut(t, tenants+"/"+configCanary+"-1", configDocument(1))
	m, err := config.OpenMap(t.Context(), cli, tenants, &config.Options[configLimits]{Validate: configValidate})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	configReads(t, tenants, one, 0, 0)
	two := configPut(t, tenants+"/"+configCanary+"-2", configDocument(1))
	configReads(t, tenants, two, 0, 0)
	configPut(t, tenants+"/"+configCanary+"-1", configDocument(-1))
	configPut(t, tenants+"/"+configCanary+"-2", configDocument(-1))
	configReads(t, tenants, two, 2, 2)
	three := configPut(t, tenants+"/"+configCanary+"-1", configDocument(3))
	configReads(t, tenants, three, 1, 2)
	m.Close()
	configGone(t, tenants)
}
