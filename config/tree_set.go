package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
)

// reading makes a value of places. What it is given to set holds the default: what that leads to by pointers, maps and
// slices is copied before it is written to, level by level, and shared where no key changes it.
type reading struct {
	builder
	parts *codec.Parts

	full    bool     // look for fields that nothing names
	covered int      // maps and lists around the current place that a document sets
	path    []string // to the current place
	missing []string // the first of the fields that nothing names
}

// most is how many missing fields an error names.
const most = 10

// set gives v, a place of T, what is said of p above a rank: below it, a document around p has replaced it.
func (r *reading) set(v reflect.Value, p *place, floor rank) error {
	if p.shape.kind == shapeStruct {
		return r.setStruct(v, p, floor)
	}
	whole := false
	if last := p.last(); last.rank > floor {
		if err := r.into(v, last); err != nil {
			return err
		}
		whole, floor = true, last.rank
	}
	below := slices.ContainsFunc(p.below, func(b *place) bool { return b.newest > floor })
	if !below {
		return nil
	}
	p.sort()
	v = owned(v)
	if whole {
		r.covered++
		defer func() { r.covered-- }()
	}
	switch p.shape.kind {
	case shapeMap:
		return r.setMap(v, p, floor)
	case shapeList:
		return r.setList(v, p, floor)
	case shapeAny:
		m := reflect.New(anyMap).Elem()
		if v.Elem().IsValid() && v.Elem().Type() == anyMap {
			m.Set(v.Elem())
		}
		err := r.setMap(m, p, floor)
		v.Set(m)
		return err
	case shapeValue, shapeStruct:
	}
	return nil
}

var anyMap = reflect.TypeFor[map[string]any]()

// setStruct takes the documents of a struct apart, the lowest rank first, and then sets its fields.
func (r *reading) setStruct(v reflect.Value, p *place, floor rank) error {
	s := p.shape
	there := len(r.path) == 0
	for _, said := range p.said {
		if said.rank <= floor {
			continue
		}
		parts, null, err := r.parts.Fields(s.typ, said.document())
		if err != nil {
			return said.leaf.refuse(err)
		}
		if there = !null; null {
			v.SetZero()
			floor = said.rank
			continue
		}
		for i := range parts {
			if err := r.hand(p, said, &parts[i]); err != nil {
				return err
			}
		}
	}
	p.sort()
	below := slices.DeleteFunc(slices.Clone(p.below), func(b *place) bool { return b.newest <= floor })
	if len(below) == 0 && !there {
		return nil
	}
	v = owned(v)
	for i, f := range s.fields {
		switch {
		case len(below) > 0 && below[0].order == i:
			r.path = append(r.path, f.name)
			if err := r.set(fieldOf(v, f.index), below[0], floor); err != nil {
				return err
			}
			r.path = r.path[:len(r.path)-1]
			below = below[1:]
		case r.full && r.covered == 0:
			r.lack(strings.Join(r.path, "."), f)
		case len(below) == 0:
			return nil
		}
	}
	return nil
}

// hand says of a field what a document around it has for it.
func (r *reading) hand(p *place, said saying, part *codec.Part) error {
	i, ok := p.shape.exact[part.Name]
	if !ok || part.Skipped(p.shape.fields[i].shape.typ) {
		return nil
	}
	child, err := r.child(p, p.shape.fields[i].shape, part.Name, i)
	if err != nil {
		return said.leaf.refuse(err)
	}
	child.add(saying{leaf: said.leaf, part: part, rank: said.rank})
	return nil
}

func (r *reading) setMap(m reflect.Value, p *place, floor rank) error {
	own := reflect.MakeMapWithSize(m.Type(), m.Len()+len(p.below))
	for entries := m.MapRange(); entries.Next(); {
		own.SetMapIndex(entries.Key(), entries.Value())
	}
	m.Set(own)
	names := map[any]*place{} // of keys that are no strings, since two texts may mean one
	elem := reflect.New(m.Type().Elem()).Elem()
	for _, b := range p.below {
		if b.newest <= floor {
			continue
		}
		key := reflect.New(m.Type().Key()).Elem()
		if p.shape.plainKeys {
			key.SetString(b.name)
		} else {
			if !r.key(key, b.name) {
				return b.first(floor).refuse(fmt.Errorf("%s is no key of a %v", quoted(b.name), m.Type()))
			}
			if other := names[key.Interface()]; other != nil {
				return b.first(floor).refuse(fmt.Errorf("key %s names the same entry: one of them must go", quoted(other.first(floor).key)))
			}
			names[key.Interface()] = b
		}
		elem.SetZero()
		if there := m.MapIndex(key); there.IsValid() {
			elem.Set(there)
		}
		r.path = append(r.path, b.name)
		if err := r.set(elem, b, floor); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		m.SetMapIndex(key, elem)
	}
	return nil
}

// key reads the key of a map that is not a plain string as encoding/json does, and reports whether it is one.
func (r *reading) key(key reflect.Value, name string) bool {
	one := reflect.New(reflect.MapOf(key.Type(), reflect.TypeFor[struct{}]())).Elem()
	text, err := json.Marshal(map[string]struct{}{name: {}})
	if err != nil || r.parts.Into(one, codec.Whole(text)) != nil || one.Len() != 1 {
		return false
	}
	key.Set(one.MapKeys()[0])
	return true
}

func (r *reading) setList(list reflect.Value, p *place, floor rank) error {
	if list.Kind() == reflect.Slice {
		own := reflect.MakeSlice(list.Type(), list.Len(), list.Len()+len(p.below))
		reflect.Copy(own, list)
		list.Set(own)
	}
	for _, b := range p.below {
		if b.newest <= floor {
			continue
		}
		switch n := list.Len(); {
		case b.order < n:
		case list.Kind() == reflect.Array:
			return b.first(floor).refuse(fmt.Errorf("%v has no element %d", list.Type(), b.order))
		case b.order > n:
			return b.first(floor).refuse(fmt.Errorf("element %d of a list of %d: there must be no gap", b.order, n))
		default:
			list.SetLen(n + 1) // there is room for all
		}
		r.path = append(r.path, b.name)
		if err := r.set(list.Index(b.order), b, floor); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
	}
	return nil
}

// into sets v to what was said of its place.
func (r *reading) into(v reflect.Value, said saying) error {
	if err := r.parts.Into(v, said.document()); err != nil {
		return said.leaf.refuse(err)
	}
	return nil
}

// document is what was said, for package codec.
func (s saying) document() codec.Part {
	if s.part != nil {
		return *s.part
	}
	return codec.Whole(s.leaf.value)
}

// first is a key at or below a place, for errors.
func (p *place) first(floor rank) *leaf {
	if last := p.last(); last.rank > floor {
		return last.leaf
	}
	for _, b := range p.below {
		if b.newest > floor {
			return b.first(floor)
		}
	}
	return &leaf{}
}

// owned follows pointers to what they lead to, which is a copy of what was there.
func owned(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		own := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			own.Elem().Set(v.Elem())
		}
		v.Set(own)
		v = own.Elem()
	}
	return v
}

// fieldOf is the field at an index, through embedded structs.
func fieldOf(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		v = owned(v).Field(i)
	}
	return v
}

// lack notes the fields that nothing names: f, or those in it.
func (r *reading) lack(path string, f field) {
	if path != "" {
		path += "."
	}
	path += f.name
	switch {
	case len(r.missing) > most:
	case f.shape.typ.Kind() == reflect.Pointer: // may be nil, and so is optional
	case f.shape.kind == shapeStruct:
		for _, inner := range f.shape.fields {
			r.lack(path, inner)
		}
	default:
		r.missing = append(r.missing, short(path))
	}
}

// missingErr is the error for fields that nothing names.
func (r *reading) missingErr() error {
	switch n := len(r.missing); {
	case n == 0:
		return nil
	case n > most:
		return fmt.Errorf("no key sets %s, and others", strings.Join(r.missing[:most], ", "))
	default:
		return errors.New("no key sets " + strings.Join(r.missing, ", "))
	}
}
