package names_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/internal/names"
)

func TestNamesAreRefusedWithTheRuleTheyBreak(t *testing.T) {
	for _, c := range []struct{ name, opaque, path string }{
		{"orders", "", ""},
		{"orders/42", "", ""},
		{"/config/app", "", ""},
		{"a.b-c_d é 世界", "", ""},
		{"...", "", ""},
		{"a..b", "", ""},
		{"/my-lock/", "", "ends in a slash"},
		{"/", "", "ends in a slash"},
		{"", "empty", "empty"},
		{"a//b", "", "empty segment"},
		{"//a", "", "empty segment"},
		{"..", "", `".."`},
		{"a/../b", "", `".."`},
		{"a\x00b", "control character", "control character"},
		{"a\nb", "control character", "control character"},
		{"a\u0085b", "control character", "control character"},
		{"a\xffb", "control character", "control character"},
	} {
		for kind, check := range map[string]struct {
			err  error
			want string
		}{
			"opaque": {names.Opaque("lock", c.name), c.opaque},
			"path":   {names.Path("service", c.name), c.path},
		} {
			switch {
			case check.want == "" && check.err != nil:
				t.Errorf("%s name %q was refused: %v", kind, c.name, check.err)
			case check.want != "" && check.err == nil:
				t.Errorf("%s name %q was not refused", kind, c.name)
			case check.want != "" && !strings.Contains(check.err.Error(), check.want):
				t.Errorf("%s name %q was refused without naming the rule: %v", kind, c.name, check.err)
			}
		}
	}
}

func TestASegmentHoldsNoSlash(t *testing.T) {
	if err := names.Segment("instance", "a"); err != nil {
		t.Error(err)
	}
	if err := names.Segment("instance", "a/b"); err == nil || errors.Unwrap(err) == nil {
		t.Errorf("a slash passed: %v", err)
	}
}
