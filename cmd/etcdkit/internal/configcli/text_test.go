package configcli

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/config"
)

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	here := func(text string) time.Time {
		at, err := time.ParseInLocation(time.DateTime, text, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for text, want := range map[string]time.Time{
		"2026-05-17T14:30:00Z": time.Date(2026, 5, 17, 14, 30, 0, 0, time.UTC),
		"2026-05-17 14:30:05":  here("2026-05-17 14:30:05"),
		"2026-05-17 14:30":     here("2026-05-17 14:30:00"),
		"2026-05-17T14:30":     here("2026-05-17 14:30:00"),
		"2026-05-17":           here("2026-05-17 00:00:00"),
		"90m":                  time.Now().Add(-90 * time.Minute),
		"90m ago":              time.Now().Add(-90 * time.Minute),
		"3d":                   time.Now().Add(-72 * time.Hour),
	} {
		if got, err := parseTime(text); err != nil || got.Sub(want).Abs() > time.Minute {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "noon", "-3h", "3", "d", "2026-13-01"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestStepsAreReadInTheirOrder(t *testing.T) {
	t.Parallel()
	var steps []config.Step
	byPercent, byLabels := stepsFlag{&steps, percent, "percent"}, stepsFlag{&steps, labels, "labels"}
	for _, err := range []error{
		byPercent.Set("10%"), byLabels.Set("zone=eu,tier=web:1m30s"), byPercent.Set("12.5%:30s:3"), byLabels.Set("host=a:80:1.5s"), byPercent.Set("100%:0"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []config.Step{
		{Percent: 10},
		{Labels: map[string]string{"zone": "eu", "tier": "web"}, Soak: 90 * time.Second},
		{Percent: 12.5, Soak: 30 * time.Second, MinReports: 3},
		{Labels: map[string]string{"host": "a:80"}, Soak: 1500 * time.Millisecond},
		{Percent: 100},
	}
	if !reflect.DeepEqual(steps, want) {
		t.Errorf("got  %+v\nwant %+v", steps, want)
	}
	for text, f := range map[string]stepsFlag{
		"": byPercent, "10": byPercent, "%": byPercent, "0%": byPercent, "101%": byPercent, "NaN%": byPercent, "10%:": byPercent, "10%:3": byPercent,
		"10%:30s:": byPercent, "10%:5parsecs": byPercent, "10%:30s:99999999999999999999": byPercent, "zone": byLabels, "=eu": byLabels, "a=b,": byLabels, "a=b\n": byLabels,
	} {
		if err := f.Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if got := stepText(want[1]) + "; " + stepText(want[2]); got != "tier=web,zone=eu, soak 1m30s; 12.5 %, soak 30s, at least 3 instances" {
		t.Errorf("said as %q", got)
	}
}

func TestErrorsAreSaidWithoutTheNamesOfPackages(t *testing.T) {
	t.Parallel()
	inner := fmt.Errorf("config %q: %w", "/a/b", errors.New("config: changed\nby \x1b[31msomebody"))
	for text, want := range map[string]string{
		inner.Error(): "/a/b: changed by  [31msomebody",
		"pool: no member answers: a:1: config: b":                "no member answers: a:1: b",
		"config: import: line 1: decode config.header: bad YAML": "import: line 1: bad YAML",
		"my config: x": "my config: x",
	} {
		if got := plainly(text); got != want {
			t.Errorf("%q is said as %q, want %q", text, got, want)
		}
	}
}
