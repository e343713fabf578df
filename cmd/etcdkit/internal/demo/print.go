package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// The columns of a line: a margin, the time since the step began, who, and what.
const (
	margin     = "     "
	timeWidth  = 7
	whoWidth   = 5
	hang       = len(margin) + timeWidth + 2 + whoWidth + 1
	seenIndent = 39 // of the second column of the summary
)

// Those who act, beside the services.
const (
	you  = "demo"
	etcd = "etcd"
)

// printer lays the demo out on a screen.
type printer struct {
	*screen.Screen
	began time.Time // of the step
}

// who is a name in the color that it has all the time.
func (p *printer) who(name string) string {
	styles := map[string]screen.Style{
		"a": screen.Cyan, "b": screen.Purple, "c": screen.Yellow, "d": screen.Blue, you: screen.Bold, etcd: screen.Green,
	}
	return p.Paint(styles[name], screen.Pad(name, whoWidth))
}

// step begins a step.
func (p *printer) step(number int, title string) {
	p.began = time.Now()
	p.Print("")
	p.Print(p.Paint(screen.Bold, fmt.Sprintf("%3d  %s", number, title)))
}

// line says what somebody did, and when.
func (p *printer) line(at time.Time, who, what string) {
	since := fmt.Sprintf("%*.2f s", timeWidth-2, max(0, at.Sub(p.began).Seconds()))
	for i, text := range screen.Wrap(what, p.Width()-hang) {
		if i == 0 {
			p.Print(margin + p.Paint(screen.Dim, since) + "  " + p.who(who) + " " + text)
		} else {
			p.Print(strings.Repeat(" ", hang) + text)
		}
	}
}

// waiting shows what is being waited for, while it is.
func (p *printer) waiting(what string) {
	p.Status(fmt.Sprintf("%s%*.2f s  ... %s", margin, timeWidth-2, time.Since(p.began).Seconds(), what))
}

// mark is the sign that something holds, does not, or was not seen.
func (p *printer) mark(f finding) string {
	switch {
	case f.err == nil:
		return p.Paint(screen.Green, "✓")
	case errors.Is(f.err, errNotReached):
		return p.Paint(screen.Dim, "–")
	default:
		return p.Paint(screen.Red, "✗")
	}
}

// verdict says what has become of a promise.
func (p *printer) verdict(f finding) {
	p.Status("")
	text := f.promise + ": " + f.seen
	style := screen.Green
	if f.err != nil {
		text, style = f.promise+": "+f.err.Error(), screen.Red
	}
	for i, line := range screen.Wrap(text, p.Width()-len(margin)-2) {
		mark := " "
		if i == 0 {
			mark = p.mark(f)
		}
		p.Print(margin + mark + " " + p.Paint(style, line))
	}
}

// summary sets what was promised against what was seen.
func (p *printer) summary(findings []finding) {
	rule := p.Paint(screen.Dim, strings.Repeat("─", p.Width()))
	p.Print("")
	p.Print(rule)
	p.Print(p.Paint(screen.Bold, "   "+screen.Pad("promised", seenIndent-3)+"seen"))
	p.Print(rule)
	for _, promise := range promises {
		f := finding{promise: promise, err: errNotReached}
		if i := slices.IndexFunc(findings, func(f finding) bool { return f.promise == promise }); i >= 0 {
			f = findings[i]
		}
		text, style := f.seen, screen.Plain
		switch {
		case errors.Is(f.err, errNotReached):
			text, style = f.err.Error(), screen.Dim
		case f.err != nil:
			text, style = f.err.Error(), screen.Red
		}
		for i, line := range screen.Wrap(text, p.Width()-seenIndent) {
			left := strings.Repeat(" ", seenIndent)
			if i == 0 {
				left = " " + p.mark(f) + " " + screen.Pad(promise, seenIndent-3)
			}
			p.Print(left + p.Paint(style, line))
		}
	}
	p.Print(rule)
}
