package doctor

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// indent is where the text of a finding begins, behind its mark.
const indent = "      "

// printer lays reports out on a screen.
type printer struct {
	*screen.Screen
	verbose bool // with the evidence of what is well
	begun   bool
}

// looks are how verdicts look.
var looks = map[Verdict]struct {
	mark  string
	style screen.Style
}{
	OK: {"✓", screen.Green}, Skipped: {"–", screen.Dim}, Warn: {"!", screen.Yellow}, Fail: {"✗", screen.Red},
}

// working shows what is being examined, while it is.
func (p *printer) working(c check) { p.Status(fmt.Sprintf("  %d  %s ...", c.number, c.title)) }

// object prints a report as an object in a line.
func (p *printer) object(r Report) error {
	line, err := cli.Line(r)
	if err != nil {
		return fmt.Errorf("printing check %d: %w", r.Number, err)
	}
	p.Status("")
	p.Print(line)
	return nil
}

// report prints one for people.
func (p *printer) report(c check, r Report) {
	p.Status("")
	if p.begun {
		p.Print("")
	}
	p.begun = true
	title, look := fmt.Sprintf("%3d  %s", c.number, c.title), looks[r.Verdict]
	fill := strings.Repeat(" ", max(1, p.Width()-utf8.RuneCountInString(title)-len(r.Verdict)))
	p.Print(p.Paint(screen.Bold, title) + fill + p.Paint(look.style, string(r.Verdict)))
	for _, f := range merged(r.Findings) {
		p.finding(f)
	}
}

// merged puts what is to be said in the same words in one finding.
func merged(findings []Finding) (all []Finding) {
	for _, f := range findings {
		i := slices.IndexFunc(all, func(o Finding) bool { return o.Verdict == f.Verdict && o.Reason == f.Reason && o.Remedy == f.Remedy })
		if i < 0 {
			all = append(all, f)
			continue
		}
		all[i].Subject = joined(all[i].Subject, f.Subject)
		all[i].Evidence = slices.Concat(all[i].Evidence, f.Evidence)
	}
	return all
}

// joined are two subjects in one; "certificate of a, b" if each is "certificate of".
func joined(a, b string) string {
	of := b[:strings.LastIndexByte(b, ' ')+1]
	if first, _, _ := strings.Cut(a, ", "); first[:strings.LastIndexByte(first, ' ')+1] == of {
		b = b[len(of):]
	}
	return a + ", " + b
}

// finding prints one: what it is about and why, what was seen, and what to do.
func (p *printer) finding(f Finding) {
	look, style := looks[f.Verdict], screen.Plain
	if f.Verdict == Skipped {
		style = screen.Dim
	}
	p.wrapped("   "+p.Paint(look.style, look.mark)+"  ", style, f.Subject+": "+f.Reason)
	if f.Verdict != OK || p.verbose {
		for _, seen := range f.Evidence {
			p.wrapped(indent+p.Paint(screen.Dim, "· "), screen.Dim, seen)
		}
	}
	if f.Remedy != "" && f.Verdict != OK {
		p.wrapped(indent+"→ ", screen.Plain, f.Remedy)
	}
}

// wrapped prints text in lines, the first of which begins with what takes as many columns as the margin of the others.
func (p *printer) wrapped(first string, style screen.Style, text string) {
	margin := indent
	if strings.HasPrefix(first, indent) {
		margin += "  "
	}
	for i, line := range screen.Wrap(cli.Visible(text), p.Width()-len(margin)) {
		if i > 0 {
			first = margin
		}
		p.Print(first + p.Paint(style, line))
	}
}

// summary says what has become of it all.
func (p *printer) summary(reports []Report) {
	var parts []string
	for _, v := range verdicts {
		if names := having(reports, v); len(names) > 0 {
			part := fmt.Sprintf("%d %s", len(names), v)
			if v != OK {
				part += " (" + strings.Join(names, ", ") + ")"
			}
			parts = append(parts, p.Paint(looks[v].style, part))
		}
	}
	p.Print("")
	p.Print(p.Paint(screen.Bold, cli.Plural(len(reports), "check", "checks")+": ") + strings.Join(parts, ", "))
}
