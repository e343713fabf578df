package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// patch applies a script's lines: what is left of it makes both texts.
func patch(script []scriptLine) (a, b string) {
	var x, y strings.Builder
	for _, l := range script {
		if l.op != '+' {
			x.WriteString(l.text)
		}
		if l.op != '-' {
			y.WriteString(l.text)
		}
	}
	return x.String(), y.String()
}

func TestAScriptMakesOneTextOfTheOtherAndIsTheShortest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range random.IntN(12) {
			fmt.Fprintf(&b, "%c\n", 'a'+rune(random.IntN(3)))
		}
		return b.String()
	}
	for range 5000 {
		a, b := text(), text()
		script := compareLines(linesOf([]byte(a)), linesOf([]byte(b)))
		if x, y := patch(script); x != a || y != b {
			t.Fatalf("%q to %q: the script %v makes %q of %q", a, b, script, y, x)
		}
		edits := 0
		for _, l := range script {
			if l.op != ' ' {
				edits++
			}
		}
		if want := distance(linesOf([]byte(a)), linesOf([]byte(b))); edits != want {
			t.Fatalf("%q to %q: %d edits, %d would do", a, b, edits, want)
		}
	}
}

// distance is how many lines differ at least, the slow way.
func distance(a, b []string) int {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := range a {
		for j := range b {
			common[i+1][j+1] = max(common[i][j+1], common[i+1][j])
			if a[i] == b[j] {
				common[i+1][j+1] = common[i][j] + 1
			}
		}
	}
	return len(a) + len(b) - 2*common[len(a)][len(b)]
}

func TestADiffReadsAsADiffDoes(t *testing.T) {
	var a strings.Builder
	for n := range 20 {
		fmt.Fprintf(&a, "line %d\n", n)
	}
	b := strings.NewReplacer("line 2\n", "line two\n", "line 16\n", "").Replace(a.String()) + "line 20"
	const want = `--- document
+++ document
@@ -1,6 +1,6 @@
 line 0
 line 1
-line 2
+line two
 line 3
 line 4
 line 5
@@ -14,7 +14,7 @@
 line 13
 line 14
 line 15
-line 16
 line 17
 line 18
 line 19
+line 20
\ No newline at the end
`
	if got := DiffValues([]byte(a.String()), []byte(b)).String(); got != want {
		t.Errorf("the diff is\n%s", got)
	}
	for _, c := range []struct{ a, b, want string }{
		{"info", "warn", "@@ -1 +1 @@\n-info\n+warn\n"},
		{"info", "info\n", "@@ -1 +1 @@\n-info\n\\ No newline at the end\n+info\n"},
		{"a\r\n", "a\n", "@@ -1 +1 @@\n-a␍\n+a\n"},
		{"", "a", "@@ -0,0 +1 @@\n+a\n"},
		{"a\x1b[31m", "a\n", "-(binary, 6 bytes)\n+a\n"},
	} {
		_, got, _ := strings.Cut(DiffValues([]byte(c.a), []byte(c.b)).String(), "+++ document\n")
		if got != c.want {
			t.Errorf("%q to %q: %q", c.a, c.b, got)
		}
	}
	if d := DiffValues(nil, []byte("a\n")); d.Same || d.Lines[1] != (DiffLine{'+', "a"}) {
		t.Errorf("of nothing: %+v", d)
	}
	if d := DiffValues(nil, []byte{}); d.Same || len(d.Lines) != 0 {
		t.Errorf("of nothing to an empty one: %+v", d)
	}
	if d := DiffValues([]byte("x"), []byte("x")); !d.Same || d.String() != "" {
		t.Errorf("of the same: %+v", d)
	}
}

func TestADiffNamesThePlacesThatDiffer(t *testing.T) {
	for _, c := range []struct{ a, b, format, want string }{
		{`{"a":1,"b":{"c":[1,2,3]},"old":true}`, `{"a":1.0,"b":{"c":[1,5]},"new":{"x":null}}`, "json", `a 1 > 1.0; b.c[1] 2 > 5; b.c[2] 3 > ; new  > {"x":null}; old true > `},
		{`{"n":9007199254740993}`, `{"n":9007199254740992}`, "json", "n 9007199254740993 > 9007199254740992"},
		{"a:\n  x.y: 30s\n", "a:\n  x.y: 5m\n  <: b\n", "yaml", `a["<"]  > "b"; a["x.y"] "30s" > "5m"`},
		{"[1]", `{"a":1}`, "json", `. [1] > {"a":1}`},
		{"{\"a\": 1}", "a: 1\n", "yaml", ""},
		{"{\"a\": 1}", "{\"a\":1}", "json", ""},
		{"[a]\nx = 1\nat = 2026-11-21T09:30:00Z\n", "[a]\nx = 2\nat = 2026-11-21T09:30:00Z\n", "toml", "a.x 1 > 2"},
		{"x = 1\n", "y = 1\n", "toml", "x 1 > ; y  > 1"},
		{"info", "warn", "", ""},
		{"8080", "{}", "", ""},
	} {
		d := DiffValues([]byte(c.a), []byte(c.b))
		var got []string
		for _, p := range d.Paths {
			got = append(got, fmt.Sprintf("%s %s > %s", p.Path, p.Old, p.New))
		}
		if d.Format != c.format || strings.Join(got, "; ") != c.want || d.Same || len(d.Lines) == 0 {
			t.Errorf("%q to %q: %s: %q, %v", c.a, c.b, d.Format, got, d.Lines)
		}
	}
}

func TestADiffShowsSealedTextAsSealed(t *testing.T) {
	const one, two = "etcdkit:sealed:k1:c2VjcmV0LW9uZQ==", "etcdkit:sealed:k2:c2VjcmV0LXR3bw=="
	for _, format := range []string{"%s", "password: %s\n", `{"password":"%s"}`, `{"list":[{"x":"%s"}]}`, "%s\nand more"} {
		d := DiffValues(fmt.Appendf(nil, format, one), fmt.Appendf(nil, format, two))
		all, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%s\n%s", all, d)
		if strings.Contains(text, "c2VjcmV0") || strings.Contains(text, "k1") {
			t.Errorf("%q is shown as %s", format, text)
		}
		if !strings.Contains(text, "(sealed)") || d.Same {
			t.Errorf("%q is shown as %s", format, text)
		}
	}
}

func TestADiffOfTextsThatHaveNothingInCommonCostsLittle(t *testing.T) {
	large := func(seed byte) []byte {
		var b bytes.Buffer
		for n := range MaxPublished / 2 {
			b.WriteByte('a' + byte(n*n/7+n*int(seed))%23)
			b.WriteByte('\n')
		}
		return b.Bytes()
	}
	began := time.Now()
	d := DiffValues(large(1), large(5))
	if took := time.Since(began); took > 30*time.Second { // half of one, but for the race detector and busy machines
		t.Errorf("took %v", took)
	}
	if len(d.Lines) == 0 {
		t.Error("no lines")
	}
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("a: 1\n"), []byte("a: 2\n"))
	f.Add([]byte(`{"a":[1,{"b":2}]}`), []byte(`{"a":[1,{"b":3}]}`))
	f.Add([]byte("etcdkit:sealed:x"), []byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d := DiffValues(a, b)
		if d.Same != (bytes.Equal(a, b) && (a == nil) == (b == nil)) {
			t.Errorf("same: %t", d.Same)
		}
		if x, y := patch(compareLines(linesOf(a), linesOf(b))); x != string(a) || y != string(b) {
			t.Errorf("the script makes %q of %q", y, x)
		}
		_ = d.String()
	})
}
