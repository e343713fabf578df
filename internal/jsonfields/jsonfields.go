// Package jsonfields lists the fields of a struct by the rules of encoding/json, which keeps its own list to itself.
package jsonfields

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Field is a field as encoding/json sees it.
type Field struct {
	Name   string
	Type   reflect.Type
	Index  []int // path through embedded structs
	Quoted bool  // tagged ",string": the string holds the number that encoding/json makes of it

	tagged bool
}

// Of lists the fields of struct type t by the rules of encoding/json, in its order: those of
// embedded structs as if they were t's own, where of several with one name the shallowest wins, then
// the tagged one, and otherwise none.
func Of(t reflect.Type) []Field {
	type level struct {
		typ   reflect.Type
		index []int
	}
	var all []Field
	visited := map[reflect.Type]bool{}
	for next := []level{{typ: t}}; len(next) > 0; {
		current := next
		next = nil
		// A type embedded twice at one depth hides its own fields: they are listed twice, and so clash.
		count := map[reflect.Type]int{}
		for _, l := range current {
			count[l.typ]++
		}
		for _, l := range current {
			if visited[l.typ] {
				continue
			}
			visited[l.typ] = true
			for i := range l.typ.NumField() {
				sf := l.typ.Field(i)
				inner := sf.Type
				if inner.Name() == "" && inner.Kind() == reflect.Pointer {
					inner = inner.Elem()
				}
				if !sf.IsExported() && !(sf.Anonymous && inner.Kind() == reflect.Struct) {
					continue
				}
				tag := sf.Tag.Get("json")
				if tag == "-" {
					continue
				}
				name, opts, _ := strings.Cut(tag, ",")
				if !validName(name) {
					name = ""
				}
				index := append(slices.Clone(l.index), i)
				if name == "" && sf.Anonymous && inner.Kind() == reflect.Struct {
					next = append(next, level{inner, index})
					continue
				}
				quoted := slices.Contains(strings.Split(opts, ","), "string")
				f := Field{Name: name, Type: sf.Type, Index: index, Quoted: quoted, tagged: name != ""}
				if name == "" {
					f.Name = sf.Name
				}
				all = append(all, f)
				if count[l.typ] > 1 {
					all = append(all, f)
				}
			}
		}
	}
	return dominant(all)
}

// dominant keeps of the fields of each name the one that wins, in the order of the source.
func dominant(all []Field) []Field {
	byName := map[string][]Field{}
	for _, f := range all {
		byName[f.Name] = append(byName[f.Name], f)
	}
	var kept []Field
	for _, fs := range byName {
		slices.SortStableFunc(fs, func(a, b Field) int {
			switch {
			case len(a.Index) != len(b.Index):
				return len(a.Index) - len(b.Index)
			case a.tagged == b.tagged:
				return 0
			case a.tagged:
				return -1
			}
			return 1
		})
		if len(fs) == 1 || len(fs[0].Index) != len(fs[1].Index) || fs[0].tagged != fs[1].tagged {
			kept = append(kept, fs[0])
		}
	}
	slices.SortFunc(kept, func(a, b Field) int { return slices.Compare(a.Index, b.Index) })
	return kept
}

// validName reports whether encoding/json takes the name in a tag for one.
func validName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

// AppendFold appends name in a form in which it equals all names that encoding/json takes for the same when it ignores
// case: [strings.EqualFold] holds for them.
func AppendFold(dst []byte, name string) []byte {
	for _, r := range name {
		if r < utf8.RuneSelf {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
			dst = append(dst, byte(r))
			continue
		}
		// The smallest of those that fold to each other: the Kelvin sign is a K.
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				r = next
				break
			}
			r = next
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
