package config

import (
	"slices"
	"testing"
	"time"
)

type inner struct {
	Pool    int           `json:"pool"`
	Timeout time.Duration `json:"timeout"`
	hidden  int
}

type Embedded struct{ Name string }

type outer struct {
	Embedded
	Database inner             `json:"database"`
	Replica  *inner            `json:"replica"`
	Backends map[string]inner  `json:"backends"`
	Tags     []string          `json:"tags"`
	Since    time.Time         `json:"since"`
	Any      any               `json:"any"`
	Left     string            `json:"-"`
	Next     *outer            `json:"next"`
	Labels   map[string]string `json:"labels"`
}

func TestADifferenceNamesTheFieldsThatDiffer(t *testing.T) {
	now := time.Now()
	base := outer{
		Database: inner{Pool: 5}, Replica: &inner{Pool: 1}, Backends: map[string]inner{"a": {Pool: 1}, "b": {}},
		Tags: []string{"x"}, Since: now, Any: map[string]any{"k": 1.0},
	}
	for name, c := range map[string]struct {
		change func(*outer)
		want   []string
	}{
		"nothing":             {func(*outer) {}, nil},
		"a field":             {func(o *outer) { o.Database.Pool = 6 }, []string{"database.pool"}},
		"two fields":          {func(o *outer) { o.Database = inner{Pool: 6, Timeout: 1} }, []string{"database.pool", "database.timeout"}},
		"an embedded field":   {func(o *outer) { o.Name = "n" }, []string{"Name"}},
		"behind a pointer":    {func(o *outer) { o.Replica = &inner{Pool: 2} }, []string{"replica.pool"}},
		"the same elsewhere":  {func(o *outer) { o.Replica = &inner{Pool: 1} }, nil},
		"a pointer to nil":    {func(o *outer) { o.Replica = nil }, []string{"replica"}},
		"a pointer from nil":  {func(o *outer) { o.Next = &outer{} }, []string{"next"}},
		"a key of a map":      {func(o *outer) { o.Backends = map[string]inner{"a": {Pool: 2}, "b": {}} }, []string{"backends.a.pool"}},
		"a key more and less": {func(o *outer) { o.Backends = map[string]inner{"a": {Pool: 1}, "c": {}} }, []string{"backends.b", "backends.c"}},
		"a map to nil":        {func(o *outer) { o.Backends = nil }, []string{"backends.a", "backends.b"}},
		"nil to empty":        {func(o *outer) { o.Labels = map[string]string{} }, []string{"labels"}},
		"an array, whole":     {func(o *outer) { o.Tags = []string{"x", "y"} }, []string{"tags"}},
		"a text":              {func(o *outer) { o.Since = now.Add(1) }, []string{"since"}},
		"behind an interface": {func(o *outer) { o.Any = map[string]any{"k": 2.0} }, []string{"any.k"}},
		"of another type":     {func(o *outer) { o.Any = "text" }, []string{"any"}},
		"what JSON leaves":    {func(o *outer) { o.Left, o.Database.hidden = "x", 1 }, nil},
	} {
		changed := base
		c.change(&changed)
		if got := paths(base, changed); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := paths(1, 2); !slices.Equal(got, []string{""}) {
		t.Errorf("of a number: %q", got)
	}
}

// A value may lead back to itself, by Validate's doing; decoded ones do not.
func TestTheComparisonOfAValueThatHoldsItselfEnds(t *testing.T) {
	a, b := &outer{}, &outer{Left: "other"}
	a.Next, b.Next = a, b
	if got := paths(a, b); len(got) > 1 {
		t.Errorf("%q", got)
	}
}
