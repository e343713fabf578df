package codec

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile is documents of 1 MiB (less under the race detector), each as bad as it gets in one way.
func hostile() map[string]string {
	size := 1 << 20
	if raceEnabled {
		size = 1 << 17
	}
	rep := func(s string) string { return strings.Repeat(s, size/len(s)) }
	lines := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-64; i++ {
			b.WriteString(strings.ReplaceAll(format, "$", fmt.Sprint(i)))
		}
		return b.String()
	}
	bomb := func(first, next, last string) string {
		var b strings.Builder
		b.WriteString(first)
		for i := 1; i < 10; i++ {
			b.WriteString(strings.NewReplacer("$", fmt.Sprint(i), "@", fmt.Sprint(i-1)).Replace(next))
		}
		b.WriteString(last)
		return b.String()
	}
	ten := strings.Repeat("*a@, ", 9) + "*a@"
	indents := func() string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(strings.Repeat(" ", i) + "a:\n")
		}
		return b.String()
	}
	return map[string]string{
		"json arrays":           "[" + rep("[],") + "[]]",
		"json objects":          "[" + rep("{},") + "{}]",
		"json numbers":          "[" + rep("1,") + "1]",
		"json keys":             "{" + lines(`"$":1,`) + `"x":1}`,
		"json deep":             rep("["),
		"json deep, closed":     strings.Repeat("[", size/2) + strings.Repeat("]", size/2),
		"json deep keys":        rep(`{"a":`),
		"json escaped keys":     "{" + lines(`"\u0061$":1,`) + `"x":1}`,
		"json string":           `["` + rep(`\u0041`) + `"]`,
		"json number":           "[" + rep("1") + "]",
		"flow sequence":         "x: [" + rep("a,") + "a]",
		"flow of nothing":       "x: [" + rep("[],") + "[]]",
		"flow mapping":          "x: {" + rep("? ,") + "}",
		"flow pairs":            "x: [" + rep("a: b,") + "]",
		"flow quoted pairs":     "x: [" + rep(`"":b,`) + "]",
		"flow implicit keys":    "x: {" + lines("k$,") + "}",
		"flow deep":             "x: " + rep("["),
		"flow deep, then wide":  "x: " + strings.Repeat("[", 9000) + rep("a,"),
		"flow deep maps":        rep("{a: "),
		"block sequence":        rep("- a\n"),
		"block of nothing":      rep("-\n"),
		"block, NEL":            rep("-\u0085"),
		"block, PS":             rep("-\u2029"),
		"block deep":            rep("- "),
		"block deep, then wide": strings.Repeat("- ", 9000) + "\n" + rep("- a\n"),
		"block keys":            lines("k$: 1\n"),
		"block question marks":  lines("? k$\n"),
		"indents":               indents(),
		"anchors":               lines("- &a$ x\n"),
		"aliases":               "- &a x\n" + rep("- *a\n"),
		"tags":                  rep("- !x y\n"),
		"tag directives":        lines("%TAG !a$! x\n") + "--- a\n",
		"comments":              rep("#a\n"),
		"comments behind":       rep("- a #a\n"),
		"comments, NEL":         rep("#a\u0085"),
		"documents":             rep("---\n"),
		"long plain":            "a: " + rep("a b "),
		"long plain lines":      "a: " + rep("a\n "),
		"long quoted":           `a: "` + rep(`\n`) + `"`,
		"long single":           "a: '" + rep("''") + "'",
		"long unclosed":         `a: "` + rep("a\n "),
		"long block":            "a: |\n" + rep(" a\n"),
		"long folded":           "a: >\n" + rep(" a\n\n"),
		"long number":           "a: " + rep("1"),
		"blank lines":           rep("\n"),
		"colons":                rep(":"),
		"alias bomb":            bomb("a0: &a0 [x]\n", "a$: &a$ ["+ten+"]\n", ""),
		"alias bomb of text":    "a: &a " + strings.Repeat("x", size/2) + "\nb: [" + strings.Repeat("*a,", 1000) + "]\n",
		"alias bomb of keys":    bomb("a0: &a0 {x: 1}\n", "a$: &a$ {"+strings.ReplaceAll(ten, "*", "k*")+"}\n", ""),
		"merge bomb":            bomb("a0: &a0 {x: 1}\n", "a$: &a$ {<<: ["+ten+"]}\n", ""),

		"loop":       "a: &a [" + strings.Repeat("*a, ", 1000) + "]",
		"merge loop": "a: &a {<<: [" + strings.Repeat("*a, ", 1000) + "*a]}",
	}
}

// atTheLimit is documents that stay just under the bound on entries, in the ways that cost most.
func atTheLimit() map[string]string {
	rep := func(weight int, format string) string {
		var b strings.Builder
		for i := range (maxEntries - 10) / weight {
			b.WriteString(strings.ReplaceAll(format, "$", fmt.Sprint(i)))
		}
		return b.String()
	}
	return map[string]string{
		"hexadecimal keys":   rep(1, "0x$: 1\n"),
		"keys":               rep(1, "$: 1\n"),
		"keys without value": rep(1, "$:\n"),
		"flow keys":          "{" + rep(1, "k$,") + "}",
		"flow sequence":      "x: [" + rep(1, "a,") + "]",
		"flow pairs":         "x: [" + rep(2, "a: b,") + "]",
		"quoted pairs":       "x: [" + rep(2, `"":b,`) + "]",
		"quoted keys":        "x: {" + rep(2, `"$":1,`) + "}",
		"sequence":           rep(1, "- a\n"),
		"numbers":            rep(1, "- 0x1\n"),
		"times":              rep(1, "- 2001-1-1\n"),
		"anchors":            rep(1, "- &$ x\n"),
		"aliases":            "- &a x\n" + rep(1, "- *a\n"),
		"aliases of mapping": "- &a {}\n" + rep(1, "- *a\n"),
		"aliases as keys":    "- &a x\n" + rep(2, "- *a : x\n"),
		"tags":               rep(1, "- !!binary x\n"),
		"blocks":             rep(1, "- |+\n\n"),
		"comments":           rep(5, "- a #a\n"),
		"comments between":   rep(5, "#a\n- a\n"),
		"comments on keys":   rep(9, "k$: #\n #\n"),
		"comments in flow":   "x: [" + rep(5, "#a\n\na,\n") + "]",
		"directives":         rep(100, "%TAG !a$! x\n") + "--- a",
		"deep, then wide":    strings.Repeat("- ", 9000) + "\n" + strings.Repeat("- a\n", maxEntries-9010),
		"deep, again":        strings.Repeat(strings.Repeat("- ", 9000)+"\n", 4),
		"merges":             "a: &a {" + rep(3, "k$,") + "}\nb:\n" + strings.Repeat("- {<<: *a}\n", 1000),
	}
}

// TestAHostileDocumentCostsBoundedTimeAndMemory counts all that is allocated, which is more than is in
// use at once. The bound on time is loose, for slow machines; what it guards against takes minutes.
func TestAHostileDocumentCostsBoundedTimeAndMemory(t *testing.T) {
	maxMiB, maxTime := 50.0, 2*time.Second
	kinds := map[string]func([]byte) error{
		"any":    decoder(Auto[any]()),
		"struct": decoder(Auto[struct{ X, A []time.Duration }]()),
		"yaml":   decoder(YAML[any]()),
	}
	if raceEnabled {
		maxMiB, maxTime = 100, 20*time.Second
		delete(kinds, "struct")
		delete(kinds, "yaml")
	}
	measure := func(name, doc string) (errs []error) {
		data := []byte(doc)
		for as, decode := range kinds {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := decode(data)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			mib := float64(after.TotalAlloc-before.TotalAlloc) / (1 << 20)
			t.Logf("%5.1f MiB %4d ms  %s as %s: %v", mib, took.Milliseconds(), name, as, err)
			if mib > maxMiB || took > maxTime {
				t.Errorf("%s as %s: %.1f MiB, %v", name, as, mib, took)
			}
			errs = append(errs, err)
		}
		return errs
	}
	for name, doc := range hostile() {
		measure(name, doc)
	}
	for name, doc := range atTheLimit() {
		for _, err := range measure(name, doc) {
			if err != nil && strings.Contains(err.Error(), ruleEntries) {
				t.Errorf("%s: it is not at the limit but over it: %v", name, err)
			}
		}
	}
}
