package codec

import (
	"fmt"
	"maps"
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
	docs := tomlHostile(size)
	maps.Copy(docs, map[string]string{
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
	})
	return docs
}

// tomlHostile is what hostile has of TOML.
func tomlHostile(size int) map[string]string {
	rep := func(s string) string { return strings.Repeat(s, size/len(s)) }
	lines := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-64; i++ {
			b.WriteString(strings.ReplaceAll(format, "$", fmt.Sprint(i)))
		}
		return b.String()
	}
	return map[string]string{
		"toml arrays":                "a = [" + rep("[],") + "[]]",
		"toml inline tables":         "a = [" + rep("{},") + "{}]",
		"toml numbers":               "a = [" + rep("1,") + "1]",
		"toml floats":                "a = [" + rep("1.5,") + "1]",
		"toml long number":           "a = " + rep("1"),
		"toml long float":            "a = 0." + rep("1"),
		"toml long exponent":         "a = 1e" + rep("9"),
		"toml long hexadecimal":      "a = 0x0" + rep("0"),
		"toml underscores":           "a = 1" + rep("_1"),
		"toml deep arrays":           "a = " + rep("["),
		"toml deep, closed":          "a = " + strings.Repeat("[", size/2) + strings.Repeat("]", size/2),
		"toml 10,000 levels":         "a = " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"toml deep inline tables":    rep("a={"),
		"toml deep mixture":          "a = " + rep("[{a="),
		"toml dotted key":            rep("a.") + "a = 1",
		"toml dotted key, 10,000":    strings.Repeat("a.", 10_000) + "a = 1",
		"toml dotted quoted key":     rep(`"".`) + "a = 1",
		"toml dotted in inline":      "a = {" + rep("a.") + "a = 1}",
		"toml dotted name":           "[" + rep("a.") + "a]",
		"toml dotted keys":           lines("a.b.c$.d = 1\n"),
		"toml keys":                  lines("k$ = 1\n"),
		"toml quoted keys":           lines("\"k\\u0061$\" = 1\n"),
		"toml inline keys":           "a = {" + lines("k$=1,") + "k=1}",
		"toml inline keys over":      "a = {\n" + lines("k$=1,\n") + "k=1}",
		"toml tables":                lines("[t$]\n"),
		"toml array tables":          rep("[[t]]\n"),
		"toml array tables, nested":  "[[t]]\n" + rep("[[t.t]]\n"),
		"toml empty array tables":    rep("[[t]]\n[t.a]\n"),
		"toml long key":              rep("a") + " = 1",
		"toml long key, many below":  "['" + strings.Repeat("a", size/2) + "']\n" + lines("k$=1\n")[:size/8] + "\nx = inf",
		"toml long string":           `a = "` + rep(`\n`) + `"`,
		"toml long escapes":          `a = "` + rep(`\U0001f600`) + `"`,
		"toml long literal":          "a = '" + rep("a") + "'",
		"toml long block":            `a = """` + rep("a\n") + `"""`,
		"toml long block of escapes": `a = """` + rep("\\\n  ") + `"""`,
		"toml long block of quotes":  `a = """` + rep(`""\"`) + `"""`,
		"toml unclosed string":       `a = "` + rep(`\n`),
		"toml unclosed block":        `a = """` + rep(`\n`),
		"toml unclosed strings":      rep(`"\`),
		"toml many strings":          "a = [" + rep(`"\n",`) + "]",
		"toml comments":              rep("#\n"),
		"toml comments in an array":  "a = [" + rep("#\n") + "]",
		"toml blank lines":           rep("\n") + "a = zz",
		"toml carriage returns":      rep("\r\n") + "a = 1",
		"toml dates":                 "a = [" + rep("2026-11-21T09:30:00+01:00,") + "]",
		"toml long date":             "a = 2026-11-21T09:30:00." + rep("1"),
		"toml spaces":                "a " + rep(" ") + "= 1",
		"toml marks":                 rep("="),
		"toml points":                rep("."),
		"toml brackets":              rep("]"),
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
		"toml keys":              rep(5, "k$=1\n"),
		"toml keys of one size":  keysOfOneSize(left / tomlWeight),
		"toml quoted keys":       rep(5, "\"\\u0061$\"=1\n"),
		"toml dotted keys":       rep(10, "a.k$=1\n"),
		"toml deep dotted keys":  rep(500, strings.Repeat("a.", 98)+"k$=1\n"),
		"toml wide dotted keys":  rep(50, strings.Repeat("k$.", 9)+"k$=1\n"),
		"toml tables":            rep(5, "[t$]\n"),
		"toml array tables":      rep(10, "[[t]]\n"),
		"toml tables in array":   rep(25, "[[t]]\n[t.x$]\n"),
		"toml inline keys":       "a={" + rep(6, "k$=1,") + "}",
		"toml inline tables":     "a=[" + rep(11, "{k$=1},") + "]",
		"toml arrays":            "a=[" + rep(6, "[],") + "]",
		"toml arrays, then keys": "a=[" + rep(12, "[],") + "]\n" + rep(10, "k$=1\n"),
		"toml numbers":           "a=[" + rep(1, "1,") + "]",
		"toml floats":            "a=[" + rep(1, "0.1,") + "]",
		"toml strings":           "a=[" + rep(1, `"\n",`) + "]",
		"toml dates":             "a=[" + rep(1, "2026-11-21T09:30:00+01:00,") + "]",
		"toml local dates":       "a=[" + rep(1, "2026-11-21,") + "]",
		"toml with a fault":      rep(5, "k$=1\n") + "x = inf",
		"toml with a late fault": "a=[" + rep(1, "1,") + "inf]",
		"toml defined twice":     rep(5, "k$=1\n") + "k0=1",
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
	docs := tomlAtTheLimit()
	maps.Copy(docs, map[string]string{
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
	})
	return docs
}

// TestAHostileDocumentCostsBoundedTimeAndMemory counts all that is allocated, which is more than is in
// use at once. The bound on time is loose, for slow machines; what it guards against takes minutes.
func TestAHostileDocumentCostsBoundedTimeAndMemory(t *testing.T) {
	maxMiB, maxTime := 50.0, 2*time.Second
	kinds := map[string]func([]byte) error{
		"any":    decoder(Auto[any]()),
		"struct": decoder(Auto[struct{ X, A []time.Duration }]()),
		"yaml":   decoder(YAML[any]()),
		"toml":   decoder(TOML[any]()),
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
