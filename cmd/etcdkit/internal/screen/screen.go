package screen

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// defaultWidth is that of output which is not a terminal.
	defaultWidth = 80

	// minWidth and maxWidth bound what is laid out: below the one nothing fits, beyond the other the eye does not
	// find the next line.
	minWidth = 60
	maxWidth = 100
)

// Style is how a piece of text looks. The zero Style is plain.
type Style string

// Styles, as a terminal knows them.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Blue   Style = "34"
	Purple Style = "35"
	Cyan   Style = "36"
)

// Screen prints to one output. Make one with [New]. It is safe for concurrent use.
type Screen struct {
	width  int
	color  bool
	moving bool // the output can rewrite its last line

	mu     sync.Mutex // guards what follows, and orders what is printed
	out    io.Writer
	status string // the moving line as it stands, "" for none
	err    error  // the first one of out
}

// New returns a screen that prints to out, with colour and a moving line as far as out can show them.
func New(out io.Writer) *Screen {
	s := &Screen{out: out, width: defaultWidth}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.moving = true
	s.color = os.Getenv("NO_COLOR") == ""
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = min(max(width, minWidth), maxWidth)
	}
	return s
}

// Width is how many columns a line has.
func (s *Screen) Width() int { return s.width }

// Moving reports whether somebody is looking: the output is a terminal that can rewrite its last line.
func (s *Screen) Moving() bool { return s.moving }

// Paint returns text in a style, or as it is where there is no colour. Measure and pad text before it is painted.
func (s *Screen) Paint(style Style, text string) string {
	if !s.color || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Print prints a line.
func (s *Screen) Print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.clear() + line + "\n" + s.status)
}

// Printf prints a line made by a format.
func (s *Screen) Printf(format string, args ...any) { s.Print(fmt.Sprintf(format, args...)) }

// Status shows text below all lines, in the place of the former one; "" takes it away. What does not fit is cut
// off. It does nothing where the output cannot rewrite a line.
func (s *Screen) Status(text string) {
	if !s.moving {
		return
	}
	if n := utf8.RuneCountInString(text); n >= s.width {
		text = string([]rune(text)[:s.width-1])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear := s.clear()
	s.status = s.Paint(Dim, text)
	s.write(clear + s.status)
}

// Err returns the first error of the output: somebody has closed the pipe.
func (s *Screen) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// clear returns what takes the moving line off the screen. s.mu is held.
func (s *Screen) clear() string {
	if s.status == "" {
		return ""
	}
	return "\r\x1b[K"
}

// write prints without looking further. s.mu is held.
func (s *Screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil && s.err == nil {
		s.err = err
	}
}
