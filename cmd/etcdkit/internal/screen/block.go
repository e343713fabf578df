package screen

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Size is how many columns and rows the terminal has now; 0 and 0 if the output is none.
func (s *Screen) Size() (columns, rows int) {
	f, ok := s.out.(*os.File)
	if !ok || !s.moving {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 1 { // a terminal that does not know how large it is
		columns = s.width
	}
	if err != nil || rows < 1 {
		rows = defaultHeight
	}
	return columns, rows
}

// defaultHeight is that of a terminal which does not know.
const defaultHeight = 24

// Line is one of a block.
type Line struct {
	Style Style
	Text  string
}

// Block is lines at the end of what is on the screen, which are shown in the place of those before. Nothing else may be printed while it
// is in use, and the output must be a terminal.
type Block struct {
	Screen *Screen
	height int
}

// Show shows lines. Those that are too long, or too many, for the terminal are cut off.
func (b *Block) Show(lines []Line) {
	columns, rows := b.Screen.Size()
	if most := max(rows-1, 2); len(lines) > most {
		cut := len(lines) - most + 1
		lines = append(lines[:most-1:most-1], Line{Dim, fmt.Sprintf("... and %d more", cut)})
	}
	var out strings.Builder
	if b.height > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", b.height)
	}
	out.WriteString("\r")
	for _, l := range lines {
		out.WriteString(b.Screen.Paint(l.Style, Cut(l.Text, columns-1))) // the last column would wrap on some
		out.WriteString("\x1b[K\n")
	}
	out.WriteString("\x1b[J") // what is left of a longer one
	b.height = len(lines)
	b.Screen.mu.Lock()
	defer b.Screen.mu.Unlock()
	b.Screen.write(out.String())
}

// Cut is a text that has at most so many characters, with a mark where it was cut off.
func Cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width || width < 1 {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}
