package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/codec"
)

const (
	// diffContext is how many lines are shown around those that differ.
	diffContext = 3

	// diffDistance and diffWork bound the search for a small difference. What is further apart, or so large, is shown as replaced.
	diffDistance = 1000
	diffWork     = 20_000_000
)

// diffTexts is a unified diff of two documents, without its titles.
func diffTexts(a, b []byte) []DiffLine {
	for _, document := range [][]byte{a, b} {
		if codec.IsSealed(document) || !isText(document) {
			return slices.Concat(summary('-', a), summary('+', b))
		}
	}
	return hunks(linesOf(a), linesOf(b))
}

// summary is what is shown of a document that is not text, or next to one that is not.
func summary(op byte, document []byte) []DiffLine {
	switch {
	case document == nil:
		return nil
	case codec.IsSealed(document):
		return []DiffLine{{op, sealedShown}}
	case !isText(document):
		return []DiffLine{{op, fmt.Sprintf("(binary, %d bytes)", len(document))}}
	}
	lines := linesOf(document)
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\n")
	}
	shown := make([]DiffLine, len(lines))
	for i, l := range lines {
		shown[i] = DiffLine{op, shownLine(l)}
	}
	return shown
}

// isText reports whether a document can be shown on a terminal, and does nothing to it.
func isText(document []byte) bool {
	return utf8.Valid(document) && !strings.ContainsFunc(string(document), func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r'
	})
}

// linesOf are the lines of a text, with the newlines at their ends.
func linesOf(document []byte) []string {
	lines := strings.SplitAfter(string(document), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return lines
}

// shownLine is a line as it is shown.
func shownLine(line string) string {
	return veiled(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\r", "␍"))
}

// hunks are the lines that differ, with those around them.
func hunks(a, b []string) []DiffLine {
	script := compareLines(a, b)
	// Whether the last line ends is shown only if that differs.
	ends := func(lines []string) bool { return strings.HasSuffix(lines[len(lines)-1], "\n") }
	remark := len(a) > 0 && len(b) > 0 && ends(a) != ends(b)

	var out []DiffLine
	for i := 0; i < len(script); {
		if script[i].op == ' ' {
			i++
			continue
		}
		from, to := max(0, i-diffContext), i
		for quiet := 0; to < len(script) && quiet <= 2*diffContext; to++ {
			if quiet++; script[to].op != ' ' {
				quiet = 0
			}
		}
		for to > i && script[to-1].op == ' ' { // no more than the context after the last change
			to--
		}
		to = min(len(script), to+diffContext)
		var olds, news int
		var lines []DiffLine
		for _, l := range script[from:to] {
			if l.op != '+' {
				olds++
			}
			if l.op != '-' {
				news++
			}
			lines = append(lines, DiffLine{l.op, shownLine(l.text)})
			if remark && !strings.HasSuffix(l.text, "\n") {
				lines = append(lines, DiffLine{'\\', " No newline at the end"})
			}
		}
		out = append(out, DiffLine{'@', fmt.Sprintf("@@ -%s +%s @@", span(script[from].a, olds), span(script[from].b, news))})
		out = append(out, lines...)
		i = to
	}
	return out
}

// span is a range of lines as unified diffs have it: from 1, and of none the line before.
func span(from, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, n)
}

// scriptLine is a line of an edit script: where it stands in both texts, or would.
type scriptLine struct {
	op   byte // ' ', '-' or '+'
	a, b int
	text string
}

// compareLines is a script that makes b of a, a short one if that is found at a bounded cost.
func compareLines(a, b []string) []scriptLine {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	script := make([]scriptLine, 0, max(len(a), len(b)))
	for i := range head {
		script = append(script, scriptLine{' ', i, i, a[i]})
	}
	i, j := head, head
	for _, op := range myers(numbered(a[head:len(a)-tail], b[head:len(b)-tail])) {
		switch op {
		case '-':
			script = append(script, scriptLine{op, i, j, a[i]})
			i++
		case '+':
			script = append(script, scriptLine{op, i, j, b[j]})
			j++
		default:
			script = append(script, scriptLine{op, i, j, a[i]})
			i++
			j++
		}
	}
	for range tail {
		script = append(script, scriptLine{' ', i, j, a[i]})
		i++
		j++
	}
	return script
}

// numbered gives equal lines equal numbers, which compare faster.
func numbered(a, b []string) (x, y []int) {
	numbers := make(map[string]int)
	number := func(lines []string) []int {
		out := make([]int, len(lines))
		for i, l := range lines {
			n, known := numbers[l]
			if !known {
				n = len(numbers)
				numbers[l] = n
			}
			out[i] = n
		}
		return out
	}
	return number(a), number(b)
}

// myers is the shortest edit script (Myers, "An O(ND) Difference Algorithm"), or one that replaces all if that is not found at the cost
// allowed. Round d knows, of each diagonal k = x-y, how far d edits lead.
func myers(a, b []int) []byte {
	n, m := len(a), len(b)
	limit := min(n+m, diffDistance)
	furthest := make([]int, 2*limit+3)
	at := func(k int) int { return k + limit + 1 }
	var rounds [][]int // furthest before each round d, from diagonal -d to d
	work := 0
	for d := 0; d <= limit && work < diffWork; d++ {
		rounds = append(rounds, slices.Clone(furthest[at(-d):at(d)+1]))
		for k := -d; k <= d; k += 2 {
			x := furthest[at(k-1)] + 1
			if k == -d || k != d && furthest[at(k-1)] < furthest[at(k+1)] {
				x = furthest[at(k+1)]
			}
			for work++; x < n && x-k < m && a[x] == b[x-k]; x++ {
				work++
			}
			furthest[at(k)] = x
			if x >= n && x-k >= m {
				return backtrack(rounds, n, m)
			}
		}
	}
	return []byte(strings.Repeat("-", n) + strings.Repeat("+", m))
}

// backtrack reads the script off the rounds, from its end.
func backtrack(rounds [][]int, x, y int) []byte {
	var script []byte
	for d := len(rounds) - 1; d > 0; d-- {
		k, op := x-y, byte('-')
		before := k - 1
		if k == -d || k != d && rounds[d][k-1+d] < rounds[d][k+1+d] {
			before, op = k+1, '+'
		}
		px := rounds[d][before+d]
		py := px - before
		for ; x > px && y > py; x, y = x-1, y-1 {
			script = append(script, ' ')
		}
		script = append(script, op)
		x, y = px, py
	}
	for ; x > 0; x-- {
		script = append(script, ' ')
	}
	slices.Reverse(script)
	return script
}
