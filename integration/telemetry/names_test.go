package telemetry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// namesRoot is the root of the repository, and namesPage the contract.
const (
	namesRoot = "../.."
	namesPage = namesRoot + "/docs/metrics.md"
)

// namesKinds are the functions that make an instrument, by what a reader of metrics sees of it.
var namesKinds = map[string]string{
	"Counter": "counter", "Int64Counter": "counter", "Float64Counter": "counter",
	"Seconds": "histogram", "Float64Histogram": "histogram", "Int64Histogram": "histogram",
	"Observe": "gauge", "UpDown": "gauge", "Int64UpDownCounter": "gauge", "Int64Gauge": "gauge", "Float64Gauge": "gauge",
	"Int64ObservableGauge": "gauge", "Float64ObservableGauge": "gauge",
}

// namesOfMetric is how names of instruments, and of our attributes, look.
var namesOfMetric = regexp.MustCompile(`^etcdkit\.[a-z_]+\.[a-z_]+$`)

// namesInCode are the instruments that the SDK makes, with kind and unit as the page writes them, and all other names of ours.
func namesInCode(t *testing.T) (instruments map[string]string, others map[string]bool) {
	instruments, others = map[string]string{}, map[string]bool{}
	err := filepath.WalkDir(namesRoot, func(path string, d fs.DirEntry, err error) error {
		switch rel, _ := filepath.Rel(namesRoot, path); {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(rel, ".") && rel != "." || slices.Contains([]string{"integration", "cmd", "tools", "examples", "docs"}, rel)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				kind, name := namesKinds[namesCallee(n)], namesText(n, 0)
				if kind != "" && strings.HasPrefix(name, "etcdkit.") {
					if instruments[name] != "" {
						t.Errorf("%s: %s is made twice", path, name)
					}
					instruments[name] = kind + ", " + namesUnit(n)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && strings.HasPrefix(text, "etcdkit.") {
					others[text] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range instruments {
		delete(others, name)
	}
	return instruments, others
}

// namesCallee is the name of the function or method that is called.
func namesCallee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// namesText is the i-th argument if it is a text.
func namesText(call *ast.CallExpr, i int) string {
	if len(call.Args) > i {
		if lit, ok := call.Args[i].(*ast.BasicLit); ok {
			text, _ := strconv.Unquote(lit.Value) // "" of what is no string
			return text
		}
	}
	return ""
}

// namesUnit is the unit of an instrument.
func namesUnit(call *ast.CallExpr) string {
	if namesCallee(call) == "Seconds" {
		return "s"
	}
	unit := namesText(call, 1)
	for _, arg := range call.Args {
		if option, ok := arg.(*ast.CallExpr); ok && namesCallee(option) == "WithUnit" {
			unit = namesText(option, 0)
		}
	}
	return unit
}

// namesOnPage are the first two cells of each metric on the page, all names of ours that it mentions, and the spans that it lists.
func namesOnPage(t *testing.T) (metrics map[string]string, mentioned map[string]bool, spans []string) {
	page, err := os.ReadFile(namesPage)
	if err != nil {
		t.Fatal(err)
	}
	metrics, mentioned = map[string]string{}, map[string]bool{}
	for _, m := range regexp.MustCompile("`(etcdkit\\.[a-z_.]+)`").FindAllStringSubmatch(string(page), -1) {
		mentioned[m[1]] = true
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) < 3 {
			continue
		}
		name := strings.Trim(cells[0], "`")
		switch {
		case namesOfMetric.MatchString(name):
			if metrics[name] != "" {
				t.Errorf("%s is listed twice", name)
			}
			metrics[name] = strings.TrimSpace(cells[1])
		case slices.Contains([]string{"internal", "producer", "consumer", "client"}, cells[1]):
			spans = append(spans, name)
		}
	}
	return metrics, mentioned, spans
}

// The page is a contract: what it lists there is, of that kind and unit, and there is no more. Nor are there attributes that it does not name.
func TestMetricsAreThoseOfThePage(t *testing.T) {
	instruments, others := namesInCode(t)
	metrics, mentioned, spans := namesOnPage(t)
	if len(metrics) < 20 || len(instruments) < 4 || len(spans) < 4 {
		t.Fatalf("%d metrics and %d spans on the page, %d in the code: something is not read", len(metrics), len(spans), len(instruments))
	}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		switch made := instruments[name]; {
		case made == "":
			t.Errorf("%s is on the page, and made nowhere", name)
		case made != metrics[name]:
			t.Errorf("%s is a %q on the page, and made as a %q", name, metrics[name], made)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(instruments)) {
		if metrics[name] == "" {
			t.Errorf("%s is made, and not on the page", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(mentioned)) {
		if !others[name] && instruments[name] == "" && metrics[name] == "" {
			t.Errorf("the attribute %s is on the page, and in no code", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if !mentioned[name] {
			t.Errorf("the attribute %s is in the code, and not on the page", name)
		}
	}
}
