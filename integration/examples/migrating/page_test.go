package migrating

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// What the page shows is in this package, line for line, and the page shows something of every file of it.
func TestThePageShowsThesePrograms(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_*.go")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			sources[name] = string(text)
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	shown := map[string]bool{}
	for _, b := range blocks {
		found := false
		for name, text := range sources {
			if strings.Contains(text, b[1]) {
				found, shown[name] = true, true
			}
		}
		if !found {
			t.Errorf("this is on the page, and in none of the programs:\n%s", b[1])
		}
	}
	for name := range sources {
		if !shown[name] {
			t.Errorf("%s is not on the page", name)
		}
	}
	if len(sources) < 18 {
		t.Errorf("%d programs", len(sources))
	}
}
