// Package names checks the names that users give before they become keys.
package names

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errEmpty   = errors.New("it is empty")
	errControl = errors.New("it holds a control character or is not UTF-8")
	errSlash   = errors.New("it ends in a slash")
	errDots    = errors.New("it holds the segment \"..\"")
	errInner   = errors.New("it holds an empty segment (two slashes in a row)")
)

// Opaque checks the name of a lock or an election. As in etcd it may hold anything a key can, slashes in any
// place included; refused are the empty name and control characters.
func Opaque(kind, name string) error {
	return refuse(kind, name, opaque(name))
}

// Path checks the name of anything else: slash-separated segments, of which the first may be empty. Refused
// are the empty name, a trailing slash, empty inner segments, "..", and control characters.
func Path(kind, name string) error {
	return refuse(kind, name, path(name))
}

// Segment checks a name that must not hold a slash at all.
func Segment(kind, name string) error {
	if strings.Contains(name, "/") {
		return refuse(kind, name, errors.New("it holds a slash"))
	}
	return refuse(kind, name, path(name))
}

// refuse names what was refused and the rule, or returns nil if none was broken.
func refuse(kind, name string, rule error) error {
	if rule == nil {
		return nil
	}
	return fmt.Errorf("%s name %q refused: %w", kind, name, rule)
}

func opaque(name string) error {
	if name == "" {
		return errEmpty
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return errControl
	}
	return nil
}

func path(name string) error {
	if err := opaque(name); err != nil {
		return err
	}
	if strings.HasSuffix(name, "/") {
		return errSlash
	}
	for i, segment := range strings.Split(name, "/") {
		switch {
		case segment == "..":
			return errDots
		case segment == "" && i > 0:
			return errInner
		}
	}
	return nil
}
