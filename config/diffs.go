package config

import (
	"context"
	"encoding"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdkit/etcdkit/codec"
)

// ValueDiff is a step of a value from an older state to a newer one.
type ValueDiff[T any] struct {
	// Old and New are the values before and after. Of the first difference Old is the zero Snapshot.
	Old, New Snapshot[T]

	// Paths name what differs, in order: fields by their names in the document and keys of maps, joined by dots, as in
	// "database.pool". Arrays are compared whole, and so is what is a text to JSON. A value that is no struct and no map has
	// the path "". Nil if nothing does, as when a document was put again, and of the first difference.
	Paths []string
}

// Diffs yields the current value, and then each that is taken with what is different in it from the one yielded before: also
// for one who is slow, and misses values between. It ends when ctx does, or when the Value is closed.
func (v *Value[T]) Diffs(ctx context.Context) iter.Seq[ValueDiff[T]] {
	return func(yield func(ValueDiff[T]) bool) {
		var old Snapshot[T]
		first := true
		for s := range v.Changes(ctx) {
			d := ValueDiff[T]{Old: old, New: s}
			if !first {
				d.Paths = paths(old.Value, s.Value)
			}
			first, old = false, s
			if !yield(d) {
				return
			}
		}
	}
}

// paths names what differs between two values.
func paths[T any](a, b T) []string {
	var d differ
	d.compare("", reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem(), 0)
	slices.Sort(d.found)
	return slices.Compact(d.found)
}

// differ gathers the paths at which two values differ.
type differ struct{ found []string }

func (d *differ) compare(path string, a, b reflect.Value, depth int) {
	if a.Kind() == reflect.Interface || a.Kind() == reflect.Pointer {
		if a.IsNil() || b.IsNil() || a.Elem().Type() != b.Elem().Type() {
			if !a.IsNil() || !b.IsNil() {
				d.found = append(d.found, path)
			}
			return
		}
		d.compare(path, a.Elem(), b.Elem(), depth+1)
		return
	}
	switch {
	case depth > codec.MaxDepth || isTextType(a.Type()):
	case a.Kind() == reflect.Struct:
		d.fields(path, a, b, depth)
		return
	case a.Kind() == reflect.Map && a.Len()+b.Len() > 0:
		d.keys(path, a, b, depth)
		return
	}
	if !reflect.DeepEqual(valueOf(a), valueOf(b)) {
		d.found = append(d.found, path)
	}
}

// fields compares two structs.
func (d *differ) fields(path string, a, b reflect.Value, depth int) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			d.compare(path, a.Field(i), b.Field(i), depth+1) // its fields are as if they were this one's
		case !f.IsExported() || name == "-":
		case name == "":
			d.compare(join(path, f.Name), a.Field(i), b.Field(i), depth+1)
		default:
			d.compare(join(path, name), a.Field(i), b.Field(i), depth+1)
		}
	}
}

// keys compares two maps.
func (d *differ) keys(path string, a, b reflect.Value, depth int) {
	all := map[string]reflect.Value{}
	for _, key := range slices.Concat(a.MapKeys(), b.MapKeys()) {
		all[fmt.Sprint(valueOf(key))] = key
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, is := a.MapIndex(all[name]), b.MapIndex(all[name])
		if !was.IsValid() || !is.IsValid() {
			d.found = append(d.found, join(path, name))
			continue
		}
		d.compare(join(path, name), was, is, depth+1)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

// isTextType reports whether values of a type are a text to JSON, and so have no fields there.
func isTextType(t reflect.Type) bool {
	return t.Implements(textType) || reflect.PointerTo(t).Implements(textType)
}

// valueOf is a value as an interface, nil if it is not for others to see.
func valueOf(v reflect.Value) any {
	if !v.CanInterface() {
		return nil
	}
	return v.Interface()
}
