package capacity_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// page is docs/capacity.md: the rows of its tables, by the text of their first cell, table by table in the page's order.
type page struct {
	rest, events, example, happens []row
}

// row is one of a table, cell by cell.
type row []string

// readPage reads the page's tables, which are told by the first cell of their headers.
var readPage = sync.OnceValues(func() (*page, error) {
	text, err := os.ReadFile("../../docs/capacity.md")
	if err != nil {
		return nil, err
	}
	p := &page{}
	tables := map[string]*[]row{
		"one|leases": &p.rest, "event|calls": &p.events, "of these|there are": &p.example, "event|a second": &p.happens,
	}
	var into *[]row
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			into = nil
			continue
		}
		var r row
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			r = append(r, strings.TrimSpace(cell))
		}
		switch table := tables[r[0]+"|"+r[1]]; {
		case table != nil:
			into = table
		case into != nil && !strings.HasPrefix(r[0], "---"):
			*into = append(*into, r)
		}
	}
	return p, nil
})

// thePage is the page, with as many rows as there are tests.
func thePage(t *testing.T) *page {
	t.Helper()
	p, err := readPage()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.rest) != 13 || len(p.events) != 10 || len(p.example) != 11 || len(p.happens) != 5 {
		t.Fatalf("%d, %d, %d and %d rows", len(p.rest), len(p.events), len(p.example), len(p.happens))
	}
	return p
}

// named is the row of a name.
func named(t *testing.T, rows []row, name string) row {
	t.Helper()
	for _, r := range rows {
		if r[0] == name {
			return r
		}
	}
	t.Fatalf("the page has no %q", name)
	return nil
}

// number is what a cell says: a number, or a formula of T, in seconds.
func number(cell string, ttl float64) (float64, error) {
	over, isFormula := strings.CutSuffix(cell, "/T")
	n, err := strconv.ParseFloat(strings.ReplaceAll(over, ",", ""), 64)
	if isFormula {
		n /= ttl
	}
	return n, err
}

// value is the number of a cell that has one.
func (r row) value(t *testing.T, cell int, ttl float64) float64 {
	t.Helper()
	n, err := number(r[cell], ttl)
	if err != nil {
		t.Fatalf("%q: %v", r, err)
	}
	return n
}

// The worked example is what the page's own formulas come to.
func TestTheWorkedExampleAddsUp(t *testing.T) {
	t.Parallel()
	p := thePage(t)
	add := func(rows, formulas []row, cells map[int]int) {
		t.Helper()
		sums := map[int]float64{}
		for _, r := range rows {
			if r[0] == "sum" {
				for cell := range cells {
					if got := r.value(t, cell, 10); fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", sums[cell]) {
						t.Errorf("%q: column %d comes to %g", r, cell, sums[cell])
					}
				}
				continue
			}
			many, each := r.value(t, 1, 10), named(t, formulas, r[0])
			for cell, from := range cells {
				want := many * each.value(t, from, 10)
				if got := r.value(t, cell, 10); fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", want) {
					t.Errorf("%q: column %d is %g", r, cell, want)
				}
				sums[cell] += want
			}
		}
	}
	add(p.example, p.rest, map[int]int{2: 1, 3: 2, 4: 4, 5: 6})
	add(p.happens, p.events, map[int]int{2: 1, 3: 2})
}
