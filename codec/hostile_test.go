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

// tomlHostile is what hostile is, in TOML.
func tomlHostile() map[string]string {
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
	return map[string]string{
		"arrays":                "a = [" + rep("[],") + "[]]",
		"inline tables":         "a = [" + rep("{},") + "{}]",
		"numbers":               "a = [" + rep("1,") + "1]",
		"floats":                "a = [" + rep("1.5,") + "1]",
		"long number":           "a = " + rep("1"),
		"long float":            "a = 0." + rep("1"),
		"long exponent":         "a = 1e" + rep("9"),
		"long hexadecimal":      "a = 0x0" + rep("0"),
		"underscores":           "a = 1" + rep("_1"),
		"deep arrays":           "a = " + rep("["),
		"deep, closed":          "a = " + strings.Repeat("[", size/2) + strings.Repeat("]", size/2),
		"10,000 levels":         "a = " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"deep inline tables":    rep("a={"),
		"deep mixture":          "a = " + rep("[{a="),
		"dotted key":            rep("a.") + "a = 1",
		"dotted key, 10,000":    strings.Repeat("a.", 10_000) + "a = 1",
		"dotted quoted key":     rep(`"".`) + "a = 1",
		"dotted in inline":      "a = {" + rep("a.") + "a = 1}",
		"dotted name":           "[" + rep("a.") + "a]",
		"dotted keys":           lines("a.b.c$.d = 1\n"),
		"keys":                  lines("k$ = 1\n"),
		"quoted keys":           lines("\"k\\u0061$\" = 1\n"),
		"inline keys":           "a = {" + lines("k$=1,") + "k=1}",
		"inline keys over":      "a = {\n" + lines("k$=1,\n") + "k=1}",
		"tables":                lines("[t$]\n"),
		"array tables":          rep("[[t]]\n"),
		"array tables, nested":  "[[t]]\n" + rep("[[t.t]]\n"),
		"empty array tables":    rep("[[t]]\n[t.a]\n"),
		"long key":              rep("a") + " = 1",
		"long key, many below":  "['" + strings.Repeat("a", size/2) + "']\n" + lines("k$=1\n")[:size/8] + "\nx = inf",
		"long string":           `a = "` + rep(`\n`) + `"`,
		"long escapes":          `a = "` + rep(`\U0001f600`) + `"`,
		"long literal":          "a = '" + rep("a") + "'",
		"long block":            `a = """` + rep("a\n") + `"""`,
		"long block of escapes": `a = """` + rep("\\\n  ") + `"""`,
		"long block of quotes":  `a = """` + rep(`""\"`) + `"""`,
		"unclosed string":       `a = "` + rep(`\n`),
		"unclosed block":        `a = """` + rep(`\n`),
		"unclosed strings":      rep(`"\`),
		"many strings":          "a = [" + rep(`"\n",`) + "]",
		"comments":              rep("#\n"),
		"comments in an array":  "a = [" + rep("#\n") + "]",
		"blank lines":           rep("\n") + "a = zz",
		"carriage returns":      rep("\r\n") + "a = 1",
		"dates":                 "a = [" + rep("2026-11-21T09:30:00+01:00,") + "]",
		"long date":             "a = 2026-11-21T09:30:00." + rep("1"),
		"spaces":                "a " + rep(" ") + "= 1",
		"marks":                 rep("="),
		"points":                rep("."),
		"brackets":              rep("]"),
	}
}

// tomlAtTheLimit is documents of TOML that stay just under the bound on entries, in the ways that cost most.
func tomlAtTheLimit() map[string]string {
	const left = maxEntries - 100
	rep := func(weight int, format string) string {
		var b strings.Builder
		for i := range left / weight {
			b.WriteString(strings.ReplaceAll(format, "$", fmt.Sprint(i)))
		}
		return b.String()
	}
	return map[string]string{
		"keys":              rep(5, "k$=1\n"),
		"keys of one size":  keysOfOneSize(left / tomlWeight),
		"quoted keys":       rep(5, "\"\\u0061$\"=1\n"),
		"dotted keys":       rep(10, "a.k$=1\n"),
		"deep dotted keys":  rep(500, strings.Repeat("a.", 98)+"k$=1\n"),
		"wide dotted keys":  rep(50, strings.Repeat("k$.", 9)+"k$=1\n"),
		"tables":            rep(5, "[t$]\n"),
		"array tables":      rep(10, "[[t]]\n"),
		"tables in array":   rep(25, "[[t]]\n[t.x$]\n"),
		"inline keys":       "a={" + rep(6, "k$=1,") + "}",
		"inline tables":     "a=[" + rep(11, "{k$=1},") + "]",
		"arrays":            "a=[" + rep(6, "[],") + "]",
		"arrays, then keys": "a=[" + rep(12, "[],") + "]\n" + rep(10, "k$=1\n"),
		"numbers":           "a=[" + rep(1, "1,") + "]",
		"floats":            "a=[" + rep(1, "0.1,") + "]",
		"strings":           "a=[" + rep(1, `"\n",`) + "]",
		"dates":             "a=[" + rep(1, "2026-11-21T09:30:00+01:00,") + "]",
		"local dates":       "a=[" + rep(1, "2026-11-21,") + "]",
		"with a fault":      rep(5, "k$=1\n") + "x = inf",
		"with a late fault": "a=[" + rep(1, "1,") + "inf]",
		"defined twice":     rep(5, "k$=1\n") + "k0=1",
	}
}

func keysOfOneSize(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%09d=1\n", i)
	}
	return b.String()
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
	toml := map[string]func([]byte) error{"toml": decoder(TOML[any]())}
	measure := func(kinds map[string]func([]byte) error, name, doc string) (errs []error) {
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
	limit := func(kinds map[string]func([]byte) error, name, doc string) {
		for _, err := range measure(kinds, name, doc) {
			if err != nil && strings.Contains(err.Error(), ruleEntries) {
				t.Errorf("%s: it is not at the limit but over it: %v", name, err)
			}
		}
	}
	for name, doc := range hostile() {
		measure(kinds, name, doc)
	}
	for name, doc := range tomlHostile() {
		measure(toml, name, doc)
	}
	for name, doc := range atTheLimit() {
		limit(kinds, name, doc)
	}
	for name, doc := range tomlAtTheLimit() {
		limit(toml, name, doc)
	}
}
