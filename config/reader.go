package config

import (
	"cmp"
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
	"github.com/etcdkit/etcdkit/internal/follow"
)

// reader makes values of what is in etcd, by code that is not ours and may do anything.
type reader[T any] struct {
	form     func([]*follow.Entry) (T, error)
	validate func(T) error // may be nil
}

// read decodes entries and has the value validated.
func (r reader[T]) read(entries []*follow.Entry) (T, error) {
	value, err := r.decode(entries)
	if err == nil {
		err = r.check(value)
	}
	return value, err
}

// decode has entries decoded.
func (r reader[T]) decode(entries []*follow.Entry) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked("decoding", p)
		}
	}()
	return r.form(entries)
}

// check has a value validated.
func (r reader[T]) check(value T) (err error) {
	if r.validate == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Validate", p)
		}
	}()
	if err := r.validate(value); err != nil {
		return fmt.Errorf("by Validate: %w", err)
	}
	return nil
}

// document makes values of single documents, sealed for the key they are under if there is a keyring. The value of a rollout is
// under another key than it is for: then key says for which.
func document[T any](c codec.Codec[T], ring *codec.Keyring, key string) func([]*follow.Entry) (T, error) {
	if c == nil {
		c = codec.Auto[T]()
	}
	return func(entries []*follow.Entry) (T, error) {
		data := entries[0].Value
		if ring != nil {
			opened, err := ring.Open(cmp.Or(key, string(entries[0].Key)), data)
			if err != nil {
				var zero T
				return zero, err
			}
			data = opened
		}
		return c.Decode(data)
	}
}

// panicked is the error for a panic: where it was, and the runtime's own words. The words of others are left out:
// regexp.MustCompile, for one, panics with the text it was given, which is the document's.
func panicked(doing string, p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("%s panicked in %s: %w", doing, panicker(), err)
	}
	return fmt.Errorf("%s panicked in %s with a %T", doing, panicker(), p)
}

// panicker names the function that panicked. It works in what a deferred function calls.
func panicker() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	unwinding := false
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			unwinding = true
		case unwinding && !strings.HasPrefix(frame.Function, "runtime."):
			return fmt.Sprintf("%s (%s:%d)", frame.Function, path.Base(frame.File), frame.Line)
		}
		if !more {
			return "an unknown function"
		}
	}
}
