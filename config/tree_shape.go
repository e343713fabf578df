package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/etcdkit/etcdkit/internal/jsonfields"
)

// shape is what keys can name in a type.
type shape struct {
	kind shapeKind
	typ  reflect.Type // with the pointers in front of it
	bare reflect.Type // without

	fields []field        // of a struct
	exact  map[string]int // fields by name
	folded map[string]int // ... and as jsonfields folds them, the first of several
	elem   *shape         // of what is in a map, a list or an interface

	plainKeys bool // of a map: strings that do not decode themselves
}

type shapeKind uint8

const (
	shapeValue  shapeKind = iota // one document, no key below: a scalar, or a type that decodes itself
	shapeStruct                  // keys name fields
	shapeMap                     // keys name entries
	shapeList                    // keys name elements, by their index
	shapeAny                     // whatever the keys make of it
)

type field struct {
	name  string
	index []int // path through embedded structs
	shape *shape
}

// field returns the index of the field that a name means to encoding/json: exactly, else ignoring case.
func (s *shape) field(name string) (int, bool) {
	if i, ok := s.exact[name]; ok {
		return i, true
	}
	var buf [64]byte
	i, ok := s.folded[string(jsonfields.AppendFold(buf[:0], name))]
	return i, ok
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// shapeOf returns the shape of a type that is to be a tree, or says why it cannot be one.
func shapeOf(t reflect.Type) (*shape, error) {
	s, err := shapes{}.of(t)
	if err != nil {
		return nil, fmt.Errorf("config: %v cannot be a tree: %w", t, err)
	}
	if t.Kind() == reflect.Pointer || s.kind != shapeStruct && s.kind != shapeMap {
		return nil, fmt.Errorf("config: %v cannot be a tree: it is neither a struct nor a map, or it decodes itself", t)
	}
	return s, nil
}

// shapes makes the shapes of a type and all below it, each once: a type may contain itself.
type shapes map[reflect.Type]*shape

func (b shapes) of(t reflect.Type) (*shape, error) {
	if s, ok := b[t]; ok {
		return s, nil
	}
	s := &shape{typ: t, bare: t}
	b[t] = s
	for range 8 { // type P *P has no end
		if s.bare.Kind() == reflect.Pointer {
			s.bare = s.bare.Elem()
		}
	}
	if p := reflect.PointerTo(s.bare); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
		return s, nil
	}
	switch s.bare.Kind() {
	case reflect.Struct:
		s.kind = shapeStruct
		return s, b.fields(s)
	case reflect.Map:
		key := s.bare.Key()
		decodes := reflect.PointerTo(key).Implements(textUnmarshaler)
		switch kind := key.Kind(); {
		case decodes, reflect.Int <= kind && kind <= reflect.Uintptr:
		case kind == reflect.String:
			s.plainKeys = true
		default:
			return s, nil // encoding/json says what is wrong with it
		}
		s.kind = shapeMap
		return s, b.elem(s, s.bare.Elem())
	case reflect.Slice, reflect.Array:
		if s.bare.Elem().Kind() == reflect.Uint8 && s.bare.Kind() == reflect.Slice {
			return s, nil // base64
		}
		s.kind = shapeList
		return s, b.elem(s, s.bare.Elem())
	case reflect.Interface:
		if s.bare.NumMethod() == 0 {
			s.kind, s.plainKeys = shapeAny, true
			return s, b.elem(s, s.bare)
		}
	default:
	}
	return s, nil
}

func (b shapes) elem(s *shape, t reflect.Type) (err error) {
	s.elem, err = b.of(t)
	return err
}

func (b shapes) fields(s *shape) error {
	s.exact, s.folded = map[string]int{}, map[string]int{}
	for i, f := range jsonfields.Of(s.bare) {
		for depth := range len(f.Index) - 1 {
			if through := s.bare.FieldByIndex(f.Index[:depth+1]); through.Type.Kind() == reflect.Pointer && !through.IsExported() {
				return fmt.Errorf("field %s of %v is below %s, an embedded pointer that is not exported and cannot be set", f.Name, s.bare, through.Name)
			}
		}
		below, err := b.of(f.Type)
		if err != nil {
			return err
		}
		s.fields = append(s.fields, field{f.Name, f.Index, below})
		s.exact[f.Name] = i
		fold := string(jsonfields.AppendFold(nil, f.Name))
		if _, taken := s.folded[fold]; !taken {
			s.folded[fold] = i
		}
	}
	return nil
}

// index reads a segment of a path as the index of a list.
func index(name string) (int, bool) {
	if len(name) > 7 || name == "" || name[0] == '0' && name != "0" {
		return 0, false
	}
	i, err := strconv.ParseUint(name, 10, 32)
	return int(i), err == nil
}
