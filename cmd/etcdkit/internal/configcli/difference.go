package configcli

import (
	"errors"
	"fmt"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/config"
)

// diffLine is a line of a unified diff.
func diffLine(l config.DiffLine) string {
	if l.Op == '@' {
		return l.Text
	}
	return string(l.Op) + l.Text
}

// printDiff shows what differs.
func printDiff(s *screen.Screen, d config.Diff) {
	for _, l := range d.Lines {
		style := screen.Plain
		switch l.Op {
		case '-':
			style = screen.Red
		case '+':
			style = screen.Green
		case '@':
			style = screen.Cyan
		case '\\':
			style = screen.Dim
		}
		s.Print(s.Paint(style, diffLine(l)))
	}
}

// documents are the formats in which a value is more than text, and how to read them, in the order in which they are tried.
var documents = []struct {
	name, says string
	parse      func([]byte) (any, error)
}{
	{"json", "JSON", codec.JSON[any]().Decode},
	{"yaml", "YAML", codec.YAML[any]().Decode},
	{"toml", "TOML", codec.TOML[any]().Decode},
}

// stillParses returns an error if what a key holds is a document and what it is to hold is none of the same format. Bare scalars
// are no documents.
func stillParses(key string, old, value []byte) error {
	for _, f := range documents {
		was, err := f.parse(old)
		if err != nil || !structured(was) {
			continue
		}
		is, err := f.parse(value)
		switch {
		case err != nil:
			return fmt.Errorf("%s holds %s, which the new value is not: %w; --force publishes it all the same", key, f.says, placed(err))
		case !structured(is):
			return fmt.Errorf("%s holds a document in %s, and the new value is bare; --force publishes it all the same", key, f.says)
		}
		return nil
	}
	return nil
}

// placed says where a document is malformed, and how, without how it was read.
func placed(err error) error {
	e, ok := errors.AsType[*codec.Error](err)
	switch {
	case ok && e.Column > 0:
		return fmt.Errorf("line %d, column %d: %s", e.Line, e.Column, e.Rule)
	case ok && e.Line > 0:
		return fmt.Errorf("near line %d: %s", e.Line, e.Rule)
	}
	return err
}

// structured reports whether a document has parts.
func structured(document any) bool {
	switch document.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}
