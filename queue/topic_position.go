package queue

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in a topic's log: after one message, or after all that there were at some moment ([Topic.End]). It is a
// value, can be compared with ==, and is kept as text (String, MarshalText): JSON and the like do that by themselves.
//
// The zero Position is before all messages: whoever has remembered none starts with the oldest one that is kept.
type Position struct {
	segment  int64
	revision int64
	place    string // empty for after everything up to the revision
}

// IsZero reports whether the position is before all messages.
func (p Position) IsZero() bool { return p == Position{} }

// String is the position as text, which is empty for the zero Position. ParsePosition is its inverse.
func (p Position) String() string {
	switch {
	case p.IsZero():
		return ""
	case p.place == "":
		return fmt.Sprintf("%d.%d", p.segment, p.revision)
	}
	return fmt.Sprintf("%d.%d.%s", p.segment, p.revision, p.place)
}

var errPosition = errors.New("queue: not a position in a topic")

// ParsePosition reads what String has written.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	segment, rest, _ := strings.Cut(text, ".")
	revision, place, _ := strings.Cut(rest, ".")
	var p Position
	var bad error
	if p.segment, bad = strconv.ParseInt(segment, 10, 64); bad != nil {
		return Position{}, errPosition
	}
	if p.revision, bad = strconv.ParseInt(revision, 10, 64); bad != nil {
		return Position{}, errPosition
	}
	p.place = place
	if p.segment < 1 || p.revision < 1 || p.place != "" && !isStem(p.place) || p.String() != text {
		return Position{}, errPosition
	}
	return p, nil
}

// MarshalText is String.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePosition.
func (p *Position) UnmarshalText(text []byte) error {
	var err error
	*p, err = ParsePosition(string(text))
	return err
}

// before reports whether a message is after the position.
func (p Position) before(message Position) bool {
	if message.revision == p.revision {
		return p.place != "" && p.place < message.place
	}
	return p.revision < message.revision
}
