package codec

import (
	"reflect"
	"sync"

	"github.com/etcdkit/etcdkit/internal/jsonfields"
)

// plan is what a scan of a document must know of the Go type at one place in it. A nil plan is a place
// that is of no interest: a string, a number, an interface.
type plan struct {
	kind   planKind
	typ    reflect.Type // of planCustom
	fields []planField  // of planStruct, in the order in which encoding/json prefers them
	exact  map[string]int
	folded map[string]int // by jsonfields.AppendFold
	elem   *plan          // of planElem

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
	name   string
	quoted bool // tagged ",string"
	plan   *plan
}

// field finds a field as encoding/json does: by its exact name, else ignoring case.
func (p *plan) field(key []byte) (planField, bool) {
	if i, ok := p.exact[string(key)]; ok {
		return p.fields[i], true
	}
	var buf [64]byte
	if i, ok := p.folded[string(jsonfields.AppendFold(buf[:0], string(key)))]; ok {
		return p.fields[i], true
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
			p := &plan{kind: planStruct, exact: map[string]int{}, folded: map[string]int{}}
			b[t] = p
			for i, f := range jsonfields.Of(t) {
				p.fields = append(p.fields, planField{name: f.Name, quoted: f.Quoted})
				p.exact[f.Name] = i
				fold := string(jsonfields.AppendFold(nil, f.Name))
				if _, taken := p.folded[fold]; !taken {
					p.folded[fold] = i
				}
				if !f.Quoted {
					p.fields[i].plan = b.plan(f.Type)
				}
			}
		default:
			b[t] = nil
		}
	}
	return b[t]
}
