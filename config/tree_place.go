package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdkit/etcdkit/codec"
)

// place is a place in T that a key or a document names, or that lies above one.
type place struct {
	shape *shape
	name  string // as T has it, not as a key may spell it
	order int    // among those around it: of the field in its struct, of the element in its list

	said   []saying // by rank, lowest first
	newest rank     // the highest of what is said here and below
	below  []*place
	byName map[string]*place // below, once there are many
}

// saying is what a key says of a place: all of it, or the part that its document has for it.
type saying struct {
	leaf *leaf
	part *codec.Part // nil for the whole document
	rank rank
}

// rank says which saying counts: the higher one. It is the layer of a key, then its depth. The lowest is 1.
type rank int

func rankOf(layer, depth int) rank { return rank(layer*(codec.MaxDepth+1) + depth + 1) }

// last is what was said last of a place, without what documents above have for it.
func (p *place) last() saying {
	if len(p.said) == 0 {
		return saying{}
	}
	return p.said[len(p.said)-1]
}

// add says something of a place. Of two of one rank the later counts.
func (p *place) add(s saying) {
	p.newest = max(p.newest, s.rank)
	i := len(p.said)
	for i > 0 && p.said[i-1].rank > s.rank {
		i--
	}
	p.said = slices.Insert(p.said, i, s)
}

// builder makes places of keys.
type builder struct {
	root   *place
	places int // how many more there may be

	unknown *leaf // the first that no field takes
	others  int   // how many more
}

// put makes a place of a key.
func (b *builder) put(l *leaf, layer int) error {
	depth, err := checkPath(l.path)
	if err != nil {
		return l.refuse(err)
	}
	said := saying{leaf: l, rank: rankOf(layer, depth)}
	var route [codec.MaxDepth + 1]*place
	at, rest := b.root, l.path
	for i := range depth {
		route[i] = at
		name := rest
		if end := strings.IndexAny(rest, separators); end >= 0 {
			name, rest = rest[:end], rest[end+1:]
		}
		if at, err = b.step(at, name); err != nil {
			return l.refuse(err)
		}
		if at == nil {
			if b.unknown == nil {
				b.unknown = l
			} else {
				b.others++
			}
			return nil
		}
	}
	if other := at.last(); other.rank == said.rank {
		return l.refuse(fmt.Errorf("key %s names the same field: one of them must go", quoted(other.leaf.key)))
	}
	at.add(said)
	for _, above := range route[:depth] {
		above.newest = max(above.newest, said.rank)
	}
	return nil
}

// unknownErr is the error for keys that no field takes.
func (b *builder) unknownErr() error {
	switch {
	case b.unknown == nil:
		return nil
	case b.others == 0:
		return b.unknown.refuse(errors.New("no field takes it"))
	}
	return b.unknown.refuse(fmt.Errorf("no field takes it, nor %d other keys", b.others))
}

// step goes to the place that a segment of a path names, or returns nil if T has none.
func (b *builder) step(at *place, name string) (*place, error) {
	switch s := at.shape; s.kind {
	case shapeStruct:
		if i, ok := s.field(name); ok {
			return b.child(at, s.fields[i].shape, s.fields[i].name, i)
		}
	case shapeMap, shapeAny:
		return b.child(at, s.elem, name, 0)
	case shapeList:
		if i, ok := index(name); ok {
			return b.child(at, s.elem, name, i)
		}
	case shapeValue:
	}
	return nil, nil
}

// child returns the place of a name below another.
func (b *builder) child(at *place, s *shape, name string, order int) (*place, error) {
	const few = 8
	if at.byName != nil {
		if p, ok := at.byName[name]; ok {
			return p, nil
		}
	} else {
		for _, p := range at.below {
			if p.name == name {
				return p, nil
			}
		}
	}
	if b.places--; b.places < 0 {
		return nil, fmt.Errorf("the tree names more than %d fields, entries and elements", maxTreePlaces)
	}
	p := &place{shape: s, name: name, order: order}
	at.below = append(at.below, p)
	switch {
	case at.byName != nil:
		at.byName[name] = p
	case len(at.below) > few:
		at.byName = make(map[string]*place, 4*few)
		for _, p := range at.below {
			at.byName[p.name] = p
		}
	}
	return p, nil
}

// sort puts the places below into the order in which they are read.
func (p *place) sort() {
	order := func(a, b *place) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.name, b.name)) }
	if !slices.IsSortedFunc(p.below, order) {
		slices.SortFunc(p.below, order)
	}
}

// separators are those of the segments of a path: it may hold both.
const separators = "/."

var (
	errSegment = errors.New("it holds an empty segment (two separators in a row, or one at its end)")
	errText    = errors.New("it holds a control character or is not UTF-8")
	errDeep    = fmt.Errorf("it has more than %d segments", codec.MaxDepth)
)

// checkPath returns how many segments a path has, or which rule it breaks.
func checkPath(path string) (depth int, err error) {
	if path == "" {
		return 0, nil
	}
	separated, odd := true, false
	depth = 1
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/' || c == '.':
			if separated {
				return 0, errSegment
			}
			separated = true
			depth++
		case c < ' ' || c >= 0x7f:
			separated, odd = false, true
		default:
			separated = false
		}
	}
	switch {
	case separated:
		return 0, errSegment
	case odd && (!utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl)):
		return 0, errText
	case depth > codec.MaxDepth:
		return 0, errDeep
	}
	return depth, nil
}
