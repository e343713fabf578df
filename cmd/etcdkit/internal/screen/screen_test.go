package screen

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatIsNoTerminalGetsPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := New(&out)
	s.Status("waiting")
	s.Print(s.Paint(Red, "one"))
	s.Status("")
	s.Print("two")
	if out.String() != "one\ntwo\n" || s.Moving() || s.Width() != 80 || s.Err() != nil {
		t.Errorf("%q, moving %v, width %d, error %v", &out, s.Moving(), s.Width(), s.Err())
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if New(file).Moving() {
		t.Error("a file is taken for a terminal")
	}
}

func TestATerminalKeepsOneLineBelowAllOthers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &Screen{out: &out, width: 20, color: true, moving: true}
	s.Status("waiting")
	s.Print("one")
	s.Status("waiting still, and for quite some time")
	s.Status("")
	s.Print(s.Paint(Green, "two"))
	const clear = "\r\x1b[K"
	waiting := "\x1b[2mwaiting\x1b[0m"
	want := waiting +
		clear + "one\n" + waiting +
		clear + "\x1b[2mwaiting still, and \x1b[0m" +
		clear + "\x1b[32mtwo\x1b[0m\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	s.color = false // NO_COLOR
	if got := s.Paint(Red, "plain"); got != "plain" {
		t.Errorf("painted %q without colour", got)
	}
}

type closed struct{}

var errClosed = errors.New("closed")

func (closed) Write([]byte) (int, error) { return 0, errClosed }

func TestTheFirstErrorOfTheOutputIsKept(t *testing.T) {
	t.Parallel()
	s := New(closed{})
	s.Print("one")
	s.Print("two")
	if !errors.Is(s.Err(), errClosed) {
		t.Errorf("error %v", s.Err())
	}
}

func TestTextIsWrappedBetweenWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 20, []string{"one two three"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one  two\nthree", 7, []string{"one two", "three"}},
		{"a transformation of it", 8, []string{"a", "transformation", "of it"}},
		{"µs → ✓", 6, []string{"µs → ✓"}}, // columns, not bytes
	} {
		if got := Wrap(test.text, test.width); !slices.Equal(got, test.want) {
			t.Errorf("%q at %d: %q, want %q", test.text, test.width, got, test.want)
		}
	}
	if got := Pad("µs", 4); got != "µs  " {
		t.Errorf("padded to %q", got)
	}
	if got := Pad("longer", 4); got != "longer" {
		t.Errorf("padded to %q", got)
	}
}

func TestDurationsAreSaidInTheUnitThatFits(t *testing.T) {
	t.Parallel()
	var got []string
	for _, d := range []time.Duration{0, 840 * time.Microsecond, 12900 * time.Microsecond, 999 * time.Millisecond, 4120 * time.Millisecond, 75 * time.Second} {
		got = append(got, Duration(d))
	}
	if want := "0 µs, 840 µs, 12 ms, 999 ms, 4.1 s, 75.0 s"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
}
