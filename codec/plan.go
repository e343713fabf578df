package codec

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// plan is what a scan of a document must know of the Go type at one place in it. A nil plan is a place
// that is of no interest: a string, a number, an interface.
type plan struct {
	kind   planKind
	typ    reflect.Type // of planCustom
	fields []planField  // of planStruct, in the order in which encoding/json prefers them
	exact  map[string]int
	elem   *plan // of planElem

	// durations and customs: a time.Duration, a type that decodes itself, may occur here or below.
	// Where it cannot, a scan that looks for it does not look at names at all.
	durations, customs bool
}

type planKind uint8

const (
	planStruct   planKind = iota // an object with known fields
	planElem                     // an array, or an object with free keys
	planDuration                 // a time.Duration
	planCustom                   // a type that decodes itself: not looked into
)

type planField struct {
	name string
	plan *plan
}

// field finds a field as encoding/json does: by its exact name, else ignoring case.
func (p *plan) field(key []byte) (planField, bool) {
	if i, ok := p.exact[string(key)]; ok {
		return p.fields[i], true
	}
	for _, f := range p.fields {
		if strings.EqualFold(f.name, string(key)) {
			return f, true
		}
	}
	return planField{}, false
}

// plans holds the plan of every type that was asked for: types do not change, and there are few.
var plans sync.Map // reflect.Type to *plan

func planOf(t reflect.Type) *plan {
	if known, ok := plans.Load(t); ok {
		p, _ := known.(*plan)
		return p
	}
	b := planner{}
	root := b.plan(t)
	// A type may contain itself, so what it holds is known only once all are planned.
	for changed := true; changed; {
		changed = false
		for _, p := range b {
			changed = p.inherit() || changed
		}
	}
	plans.Store(t, root) // another goroutine may have stored one as good
	return root
}

// inherit takes over what the plans directly below hold, and reports whether that was news.
func (p *plan) inherit() bool {
	if p == nil {
		return false
	}
	durations, customs := p.kind == planDuration, p.kind == planCustom
	from := func(below *plan) {
		if below != nil {
			durations, customs = durations || below.durations, customs || below.customs
		}
	}
	from(p.elem)
	for _, f := range p.fields {
		from(f.plan)
	}
	news := durations != p.durations || customs != p.customs
	p.durations, p.customs = durations, customs
	return news
}

// planner makes the plans of one root type and all below it.
type planner map[reflect.Type]*plan

func (b planner) plan(t reflect.Type) *plan {
	if p, ok := b[t]; ok {
		return p
	}
	ptr := reflect.PointerTo(t)
	switch {
	case t.Kind() != reflect.Pointer && (ptr.Implements(jsonUnmarshalerType) || ptr.Implements(textUnmarshalerType)):
		b[t] = &plan{kind: planCustom, typ: t}
	case t == durationType:
		b[t] = &plan{kind: planDuration}
	default:
		switch t.Kind() {
		case reflect.Pointer:
			// Marked first: type P *P has no end.
			b[t] = nil
			b[t] = b.plan(t.Elem())
		case reflect.Slice, reflect.Array, reflect.Map:
			p := &plan{kind: planElem}
			b[t] = p // before its element, which may contain it
			p.elem = b.plan(t.Elem())
		case reflect.Struct:
			p := &plan{kind: planStruct, exact: map[string]int{}}
			b[t] = p
			for i, f := range jsonFields(t) {
				p.fields = append(p.fields, planField{name: f.name})
				p.exact[f.name] = i
				if !f.quoted {
					p.fields[i].plan = b.plan(f.typ)
				}
			}
		default:
			b[t] = nil
		}
	}
	return b[t]
}

// jsonField is a field as encoding/json sees it.
type jsonField struct {
	name   string
	typ    reflect.Type
	index  []int // path through embedded structs
	tagged bool
	quoted bool // tagged ",string": the string holds the number that encoding/json makes of it
}

// jsonFields lists the fields of struct type t by the rules of encoding/json, in its order: those of
// embedded structs as if they were t's own, where of several with one name the shallowest wins, then
// the tagged one, and otherwise none.
func jsonFields(t reflect.Type) []jsonField {
	type level struct {
		typ   reflect.Type
		index []int
	}
	var all []jsonField
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
				f := jsonField{name: name, typ: sf.Type, index: index, tagged: name != "", quoted: quoted}
				if name == "" {
					f.name = sf.Name
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
func dominant(all []jsonField) []jsonField {
	byName := map[string][]jsonField{}
	for _, f := range all {
		byName[f.name] = append(byName[f.name], f)
	}
	var kept []jsonField
	for _, fs := range byName {
		slices.SortStableFunc(fs, func(a, b jsonField) int {
			switch {
			case len(a.index) != len(b.index):
				return len(a.index) - len(b.index)
			case a.tagged == b.tagged:
				return 0
			case a.tagged:
				return -1
			}
			return 1
		})
		if len(fs) == 1 || len(fs[0].index) != len(fs[1].index) || fs[0].tagged != fs[1].tagged {
			kept = append(kept, fs[0])
		}
	}
	slices.SortFunc(kept, func(a, b jsonField) int { return slices.Compare(a.index, b.index) })
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
