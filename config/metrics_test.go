package config

import (
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

// Reading is not measured: what there is to say of a Value is looked up when metrics are read.
func TestMetricsCostAValueNothing(t *testing.T) {
	v := unfollowed("limits", &Options[limits]{Default: &limits{}})
	inForce.Add(v)
	defer inForce.Remove(v)
	for what, do := range map[string]func(){
		"Get":                func() { sink.limits = v.Get() },
		"Err":                func() { _ = v.Err() },
		"a refused document": func() { countRejected("limits") },
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

// stated is a Value of a key in a state, as metrics see it.
type stated applied

func (s *stated) applied() applied { return applied(*s) }

func TestOfSeveralValuesOfAKeyTheWorstIsReported(t *testing.T) {
	all := []*stated{
		{key: "a", revision: 7}, {key: "a", revision: 5}, {key: "a", revision: 6, refused: 1}, {key: "b", revision: 9},
	}
	for _, s := range all {
		inForce.Add(s)
	}
	got := merged()
	for _, s := range all {
		inForce.Remove(s)
	}
	if a, b := got["a"], got["b"]; a != (applied{"a", 5, 1}) || b != (applied{"b", 9, 0}) || len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if got := merged(); len(got) != 0 {
		t.Errorf("%v is left", got)
	}
}

func TestADocumentThatIsGoneIsNotRefused(t *testing.T) {
	v := unfollowed("port", &Options[int]{})
	for _, c := range []struct {
		document string
		revision int64
		want     applied
	}{
		{"8080", 5, applied{"port", 5, 0}},
		{"many", 6, applied{"port", 5, 1}},
		{"", 7, applied{"port", 5, 0}}, // deleted
		{"9090", 8, applied{"port", 8, 0}},
	} {
		s := step(c.revision, nil)
		if c.document != "" {
			s = step(c.revision, &follow.Entry{Key: []byte("port"), Value: []byte(c.document), ModRevision: c.revision})
		}
		listener{v.ear, &v.ear.keys}.Changed(s)
		v.apply(v.ear.heard.Get())
		if got := v.applied(); got != c.want {
			t.Errorf("after %q at %d: %v, want %v", c.document, c.revision, got, c.want)
		}
	}
}
