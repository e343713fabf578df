package main

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
)

func TestAnErrorOfUsageIsOneLineThatNamesIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args  []string
		words string
	}{
		{[]string{"bogus"}, `etcdkit: unknown command "bogus"`},
		{[]string{"--bogus"}, "etcdkit: unknown flag: --bogus"},
		{[]string{"demo", "now"}, `etcdkit demo: unknown command "now"`},
		{[]string{"demo", "--now"}, "etcdkit demo: unknown flag: --now"},
		{[]string{"dev", "now"}, `etcdkit dev: unknown command "now"`},
		{[]string{"dev", "--members", "2"}, "etcdkit dev: --members 2: a cluster for development has 1 or 3"},
		{[]string{"dev", "--members", "-1"}, "etcdkit dev: --members -1:"},
		{[]string{"dev", "--members", "many"}, `etcdkit dev: invalid argument "many" for "--members"`},
		{[]string{"dev", "--port", "70000"}, "etcdkit dev: --port 70000: it must be 0 to"},
		{[]string{"dev", "--port", "-1"}, "etcdkit dev: --port -1: it must be 0 to"},
	} {
		out, errs, code := do(t, test.args...)
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		if code != exit.Misused || out != "" || len(lines) != 2 || !strings.HasPrefix(lines[0], test.words) || !strings.HasPrefix(lines[1], "See: etcdkit") {
			t.Errorf("%v: code %d, stdout %q, stderr %q; want code %d and %q", test.args, code, out, errs, exit.Misused, test.words)
		}
	}
}

func TestWithoutACommandThereIsHelp(t *testing.T) {
	t.Parallel()
	out, errs, code := do(t)
	if code != 0 || errs != "" || !strings.Contains(out, "  demo ") || !strings.Contains(out, "  dev ") {
		t.Errorf("code %d, stderr %q, stdout %q", code, errs, out)
	}
}

func TestADirectoryThatCannotBeUsedIsAnErrorInOneLine(t *testing.T) {
	t.Parallel()
	out, errs, code := do(t, "dev", "--port", "0", "--dir", os.DevNull+"/etcd")
	if code != exit.Failed || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, os.DevNull) {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errs)
	}
}
