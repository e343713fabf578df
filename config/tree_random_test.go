package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/codec"
)

// random is a type of which values are made up and written down as keys.
type random struct {
	common
	*Inherited
	Text     string
	Number   int64            `json:"number"`
	Small    uint8            `json:"small,string"`
	Yes      bool             `json:"yes"`
	Float    float64          `json:"float"`
	Wait     time.Duration    `json:"wait"`
	Level    zapcore.Level    `json:"level"`
	Limit    *int             `json:"limit"`
	List     []time.Duration  `json:"list"`
	Plain    map[string]int   `json:"plain"`
	Fixed    [2]string        `json:"fixed"`
	Section  below            `json:"section"`
	Optional *below           `json:"optional"`
	Sections []below          `json:"sections"`
	Named    map[string]below `json:"named"`
	Leads    map[int8]*below  `json:"leads"`
}

type below struct {
	Name string        `json:"name"`
	Wait time.Duration `json:"wait"`
	Deep deepest       `json:"deep"`
}

type deepest struct {
	N    *int           `json:"n"`
	Tags map[string]int `json:"tags"`
}

// writer writes values down as keys: each at a level of its own choice, in a layer of its own choice, by a path in
// a spelling of its own choice, and with something else in the layers below, which may be bad.
type writer struct {
	*rand.Rand
	t      *testing.T
	layers [][]leaf
	taken  []map[string]bool // paths by layer, as canonical as the writer makes them
}

func (w *writer) key(layer int, path []string, value []byte) {
	spelt, canonical := "", ""
	for i, name := range path {
		if i > 0 {
			spelt += string(separators[w.IntN(2)])
			canonical += "/"
		}
		spelt += name
		canonical += name
	}
	if w.taken[layer][canonical] {
		return
	}
	w.taken[layer][canonical] = true
	w.layers[layer] = append(w.layers[layer], leaf{spelt, "/etc/" + strconv.Itoa(layer) + "/" + spelt, value})
}

// leaf puts a document at a path into a layer, and rubbish into some of those below.
func (w *writer) leaf(from int, path []string, value []byte, rubbish bool) {
	layer := from + w.IntN(len(w.layers)-from)
	w.key(layer, path, value)
	for below := range layer {
		if rubbish && below >= from && w.IntN(4) == 0 {
			w.key(below, path, []byte("{rubbish: ["+strconv.Itoa(w.Int()))) // bad for every type but text
		}
	}
}

// write says that v is at path, in layers from a certain one.
func (w *writer) write(from int, path []string, v reflect.Value) {
	at := func(name string) []string { return append(append([]string{}, path...), name) }
	doc := w.IntN(3) == 0 && len(path) > 0
	switch s, err := (shapes{}).of(v.Type()); {
	case err != nil:
		w.t.Fatal(err)
	case v.Kind() == reflect.Pointer && v.IsNil():
		if len(path) > 1 || w.IntN(2) == 0 { // an entry is there because something is said of it
			w.leaf(from, path, []byte("null"), false)
		}
	case s.kind == shapeValue, s.kind == shapeList && v.Kind() == reflect.Slice && v.IsNil(), s.kind == shapeMap && v.IsNil(), s.kind == shapeList && doc, s.kind == shapeMap && doc:
		w.leaf(from, path, w.document(v), true)
	case s.kind == shapeStruct && doc:
		// A document, and some of its fields again above it.
		w.key(from, path, w.document(v))
		for _, f := range s.fields {
			if w.IntN(3) == 0 {
				w.write(from, at(w.spell(f.name)), fieldOf(deep(v), f.index))
			}
		}
	case s.kind == shapeStruct:
		if len(path) > 0 {
			w.key(from, path, []byte("{}"))
		}
		for _, f := range s.fields {
			w.write(from, at(w.spell(f.name)), fieldOf(deep(v), f.index))
		}
	case s.kind == shapeMap:
		w.key(from, path, []byte("{}"))
		for entries := v.MapRange(); entries.Next(); {
			w.write(from, at(fmt.Sprint(entries.Key())), entries.Value())
		}
	case s.kind == shapeList:
		w.key(from, path, []byte("[]"))
		for i := range v.Len() {
			w.write(from, at(strconv.Itoa(i)), v.Index(i))
		}
	}
}

// deep is what v leads to, in a place that may be set.
func deep(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

// spell may change the case of a name.
func (w *writer) spell(name string) string {
	if w.IntN(3) > 0 {
		return name
	}
	b := []byte(name)
	for i := range b {
		if w.IntN(2) == 0 {
			b[i] ^= ' '
		}
	}
	return string(b)
}

// document writes v as Open would read it.
func (w *writer) document(v reflect.Value) []byte {
	format := codec.FormatAuto
	if w.IntN(2) == 0 && v.Kind() != reflect.String && v.Type() != reflect.TypeFor[uint8]() {
		format = codec.FormatYAML
	}
	switch v := v.Interface().(type) {
	case string:
		return encode(w.t, format, v)
	case int64:
		return encode(w.t, format, v)
	case int:
		return encode(w.t, format, v)
	case *int:
		return encode(w.t, format, v)
	case uint8:
		return encode(w.t, format, v)
	case bool:
		return encode(w.t, format, v)
	case float64:
		return encode(w.t, codec.FormatAuto, v)
	case time.Duration:
		return encode(w.t, format, v)
	case zapcore.Level:
		return encode(w.t, format, v)
	case []time.Duration:
		return encode(w.t, format, v)
	case map[string]int:
		return encode(w.t, format, v)
	case [2]string:
		return encode(w.t, format, v)
	case deepest:
		return encode(w.t, format, v)
	case below:
		return encode(w.t, format, v)
	case *below:
		return encode(w.t, format, v)
	case []below:
		return encode(w.t, format, v)
	case map[string]below:
		return encode(w.t, format, v)
	case map[int8]*below:
		return encode(w.t, format, v)
	}
	w.t.Fatalf("cannot write a %v", v.Type())
	return nil
}

func encode[T any](t *testing.T, format codec.Format, v T) []byte {
	t.Helper()
	text, err := codec.Document[T]{Format: format}.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fill makes up a value.
func (w *writer) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", " a ", "true", "8080", "null", "a: b", "{x", "é\n", "\"q\"", "#", "[1]", "~"}[w.IntN(12)])
	case reflect.Int, reflect.Int64:
		v.SetInt(w.Int64() >> w.IntN(64))
	case reflect.Int8:
		if v.Type() == reflect.TypeFor[zapcore.Level]() {
			v.SetInt(int64(w.IntN(7)) - 1)
			return
		}
		v.SetInt(int64(w.IntN(256) - 128))
	case reflect.Uint8:
		v.SetUint(uint64(w.IntN(256)))
	case reflect.Bool:
		v.SetBool(w.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(w.NormFloat64())
	case reflect.Pointer:
		if w.IntN(3) > 0 || v.Type() == reflect.TypeFor[*Inherited]() {
			v.Set(reflect.New(v.Type().Elem()))
			w.fill(v.Elem())
		}
	case reflect.Slice:
		if n := w.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				w.fill(v.Index(i))
			}
		}
	case reflect.Map:
		if n := w.IntN(4); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n - 1 {
				key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				w.fill(key)
				if key.Kind() == reflect.String {
					key.SetString([]string{"a", "A", "b-c", "0", "null", "é"}[w.IntN(6)])
				}
				w.fill(elem)
				v.SetMapIndex(key, elem)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			w.fill(v.Index(i))
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			w.fill(f)
		}
	default:
		w.t.Fatalf("cannot make up a %v", v.Type())
	}
}

// Whatever is written down as keys is read again as it was, whatever the default was, and that is not written to.
func TestARandomValueComesBackFromItsKeys(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ETCDKIT_TREE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ETCDKIT_TREE_SEED=%d", seed)
	runs := 3000
	if raceEnabled {
		runs = 300
	}
	source := rand.New(rand.NewPCG(seed, 0))
	keys := 0
	for run := range runs {
		w := &writer{Rand: rand.New(rand.NewPCG(seed, uint64(run))), t: t}
		for range 1 + source.IntN(4) {
			w.layers, w.taken = append(w.layers, nil), append(w.taken, map[string]bool{})
		}
		var want, base random
		w.fill(reflect.ValueOf(&want).Elem())
		// Documents of structs say all of their fields, null included, which leaves what is no pointer as it is: so
		// the default has nothing at such places.
		w.fill(reflect.ValueOf(&base).Elem())
		base.Optional, base.Leads, base.Section.Deep.N, base.Limit = nil, nil, nil, nil
		before := fmt.Sprintf("%#v", base)
		w.write(0, nil, reflect.ValueOf(want))
		for _, layer := range w.layers {
			w.Shuffle(len(layer), func(i, j int) { layer[i], layer[j] = layer[j], layer[i] })
			keys += len(layer)
		}
		tree, err := newTree(&base, true, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.decode(w.layers)
		if err != nil || !reflect.DeepEqual(got, want) {
			for i, layer := range w.layers {
				for _, l := range layer {
					t.Logf("layer %d: %q = %q", i, l.path, l.value)
				}
			}
			t.Fatalf("run %d: got\n%#v, %v\nwant\n%#v", run, got, err, want)
		}
		if after := fmt.Sprintf("%#v", base); after != before {
			t.Fatalf("run %d: the default was\n%s\nand is\n%s", run, before, after)
		}
	}
	t.Logf("%d keys", keys)
}
