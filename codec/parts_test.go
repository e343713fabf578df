package codec

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

type section struct {
	Base
	Name  string            `json:"name"`
	Wait  time.Duration     `json:"wait"`
	Count int               `json:"count,string"`
	More  *section          `json:"more"`
	Names map[string]string `json:"names"`
	When  time.Time         `json:"when"`
}

// assemble reads a document field by field, as config does.
func assemble(ps *Parts, v reflect.Value, p Part) error {
	t := v.Type()
	if bare := t; bare != reflect.TypeFor[section]() && bare != reflect.TypeFor[*section]() {
		return ps.Into(v, p)
	}
	parts, null, err := ps.Fields(t, p)
	if err != nil || null {
		return err
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		v = v.Elem()
	}
	for _, part := range parts {
		f := v.FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, part.Name) })
		if part.Skipped(f.Type()) {
			continue
		}
		if err := assemble(ps, f, part); err != nil {
			return err
		}
	}
	return nil
}

func TestADocumentInPartsIsTheDocument(t *testing.T) {
	t.Parallel()
	docs := append([]string{
		`{"name": "a", "wait": "5s", "count": "7", "every": "1s", "more": {"NAME": "b", "more": null, "names": {"x": "y"}}, "other": [1, {}], "when": "2026-11-21T00:00:00Z"}`,
		"name: a\nwait: 5s\ncount: '7'\nmore:\n  name: b\n  more: {name: c}\n", "{name: a}", `{"name": null, "wait": null, "count": null, "when": null}`,
		`{"count": 7}`, `{"count": "x"}`, `{"count": "7` + canary + `"}`, `{"more": {"wait": 5}}`, "more:\n  more:\n    wait: x", `{"more": 5}`, `{"more": [1]}`, `{"when": "x"}`, `{"names": {"a": 1}}`,
		`{"name": "a", "NAME": "b"}`, `{"name": "a", "name": "b"}`, "[1]", "x", "[1] x", `{"a" 1}`, `{"a": 1} x`, "&a {more: *a}", "{\"name\": \"\xff\"}", "{\"name\": \"a\x00\"}", "\ufeff{\"wait\": 5}", "\ufeff{\"more\": {\"wait\": 5}} ", `{"more": ` + strings.Repeat("[", 101) + strings.Repeat("]", 101) + "}",
		"\ufeff{}", " { } ", "\xff", "{\x00}", strings.Repeat("x", MaxSize+1),
	}, seeds...)
	for _, strict := range []bool{false, true} {
		for _, doc := range docs {
			want, wantErr := Document[section]{Strict: strict}.Decode([]byte(doc))
			var got section
			err := assemble(NewParts(strict), reflect.ValueOf(&got).Elem(), Whole([]byte(doc)))
			if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%.300q, strict %v: got %+v, %v, Decode has %+v, %v", doc, strict, got, err, want, wantErr)
			}
			if err == nil || wantErr == nil {
				continue
			}
			grep(t, doc, canary, err)
			one, _ := errors.AsType[*Error](err)
			other, _ := errors.AsType[*Error](wantErr)
			if other.Line == 0 { // encoding/json does not say where it is
				continue
			}
			if one.Line != other.Line || one.Column != other.Column || one.Format != other.Format || one.Field != other.Field {
				t.Errorf("%.300q: got %v, Decode says %v", doc, err, wantErr)
			}
		}
	}
}

func TestWhatIsSetIsSetAsAWhole(t *testing.T) {
	t.Parallel()
	list := []section{{Name: "kept", Names: map[string]string{"a": "b"}}}
	v := list
	if err := NewParts(false).Into(reflect.ValueOf(&v).Elem(), Whole([]byte(`[{"wait": "1s"}]`))); err != nil || !reflect.DeepEqual(v, []section{{Wait: time.Second}}) {
		t.Errorf("got %+v, %v", v, err)
	}
	if list[0].Name != "kept" {
		t.Errorf("the list that was there is %+v", list)
	}
	raw := []byte(`"x"`)
	var keep json.RawMessage
	if err := NewParts(false).Into(reflect.ValueOf(&keep).Elem(), Whole(raw)); err != nil {
		t.Fatal(err)
	}
	if raw[1] = 'y'; string(keep) != `"x"` {
		t.Errorf("the value shares the document's memory: %s", keep)
	}
}

// The budget is that of one document, for all.
func TestManyDocumentsOfYAMLMayCostAsMuchAsOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, rule string }{
		"small":   {"x", ruleEntries},
		"entries": {"[a" + strings.Repeat(",a", 1000) + "]", ruleEntries},
		"aliases": {"[&a [x,x,x,x,x,x,x,x],&b [*a,*a,*a,*a,*a,*a,*a,*a],[*b,*b,*b,*b,*b,*b,*b,*b]]", ruleExpanded},
		"bytes":   {"[&a " + strings.Repeat("x", 100_000) + ", *a, *a]", ruleExpanded},
	} {
		doc, said := c.doc, c.rule+", with all that was read before"
		ps := NewParts(false)
		read := 0
		var err error
		for ; err == nil && read < 10_000; read++ {
			var v any
			if err = ps.Into(reflect.ValueOf(&v).Elem(), Whole([]byte(doc))); err != nil {
				_, _, err := ps.Fields(reflect.TypeFor[section](), Whole([]byte("other: "+doc)))
				if err == nil || !strings.Contains(err.Error(), said) {
					t.Errorf("%s: fields: %v", name, err)
				}
			}
		}
		if err == nil || !strings.Contains(err.Error(), said) || read < 20 {
			t.Errorf("%s: after %d: %v", name, read, err)
		}
		var v any
		if err := ps.Into(reflect.ValueOf(&v).Elem(), Whole([]byte(`{"a": 1}`))); err != nil {
			t.Errorf("%s: JSON: %v", name, err)
		}
		if err := NewParts(false).Into(reflect.ValueOf(&v).Elem(), Whole([]byte(doc))); err != nil {
			t.Errorf("%s: by itself: %v", name, err)
		}
	}
}
