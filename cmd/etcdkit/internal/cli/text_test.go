package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

func TestTimesAreSaidAsPeopleSayThem(t *testing.T) {
	t.Parallel()
	for since, want := range map[time.Duration]string{
		-time.Hour: "now", 500 * time.Millisecond: "now", 3 * time.Second: "3s ago", 3 * time.Minute: "3m ago", 47 * time.Hour: "47h ago",
		72 * time.Hour: "3d ago", 61 * Day: time.Now().Add(-61 * Day).Format(time.DateOnly),
	} {
		if got := Ago(time.Now().Add(-since)); got != want {
			t.Errorf("%v is %q, want %q", since, got, want)
		}
	}
	if got := Ago(time.Time{}); got != "" {
		t.Errorf("no time is %q", got)
	}
}

func TestATableIsAlignedAndHoldsNoControlCharacters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Table(screen.New(&out), []string{"KEY", "N", "WHY"}, [][]string{{"a", "1", "x\ny\x1b[31m\u202ez"}, {"längere", "100", ""}})
	want := "KEY        N  WHY\na          1  x y [31m z\nlängere  100\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}
