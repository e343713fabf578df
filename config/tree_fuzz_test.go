package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/codec"
)

// layersOf makes layers of lines "path=value". A line "--" ends a layer, and \v in a value is a line's end.
func layersOf(text string) [][]leaf {
	layers := [][]leaf{nil}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "--" {
			layers = append(layers, nil)
			continue
		}
		path, value, _ := strings.Cut(line, "=")
		top := &layers[len(layers)-1]
		*top = append(*top, leaf{path, "/k/" + path, []byte(strings.ReplaceAll(value, "\v", "\n"))})
	}
	return layers
}

func FuzzTree(f *testing.F) {
	for _, s := range []string{
		"", "database.url=x\nlog/level=warn", "database={\"pool\":5,\"tls\":{\"cert\":\"c\"}}\n--\ndatabase/pool=6\ndatabase.tls=null\n--\ndatabase.tls.key=k",
		"backends.a.host=h\nbackends/a/labels.x=y\nreplicas.r.port=1\nreplicas.s=null\nports.80=x\nports.080=y", "tags/0=a\ntags/1=b\nservers.0.host=h\npair.1=5\n--\ntags=[x]\ntags/1=y",
		"extra.a=1\nextra.b.c=[1]\n--\nextra={d: 1}\n--\nextra.0=x", "a.b=1\na/b=2", "database.url=1\ndatabase/url=2", "={\"region\":\"eu\",\"REGION\":\"us\",\"quoted\":\"5\",\"big\":1}",
		"database=url: x\vpool: 5\vtls:\v  cert: c\n--\ndatabase=timeout: 1s", "database=a: &a [*a]", "limit=5\nbig=6\nblob=aGk=\nsince=2026-11-21T00:00:00Z\nzone=z", "tags/1=x", "//=", "a\x00=", "\xff=\xff", "=null", "servers=[{}, {}]\nservers/2/labels/a=b",
	} {
		f.Add(s)
	}
	base := full()
	lenient, err := newTree(base, false, false)
	if err != nil {
		f.Fatal(err)
	}
	strict, err := newTree(base, true, false)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := newTree[database](nil, false, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		layers := layersOf(text)
		before := fmt.Sprint(layers)
		got, err := lenient.decode(layers)
		if err != nil && (len(err.Error()) > 2000 || !reflect.DeepEqual(got, app{})) {
			t.Errorf("%q: %+v came with %v", text, got, err)
		}
		taken, refused := strict.decode(layers)
		if err != nil && refused == nil || refused == nil && !reflect.DeepEqual(got, taken) {
			t.Errorf("%q: got %+v, %v, if strict %+v, %v", text, got, err, taken, refused)
		}
		if fmt.Sprint(layers) != before || !reflect.DeepEqual(base, full()) {
			t.Fatalf("%q: the input or the default was changed", text)
		}

		// The order within a layer says nothing, but for two of one key, which etcd does not have.
		twice := false
		for _, layer := range layers {
			slices.Reverse(layer)
			for i := range layer {
				twice = twice || slices.ContainsFunc(layer[:i], func(l leaf) bool { return l.key == layer[i].key })
			}
		}
		again, err2 := lenient.decode(layers)
		if !twice && (fmt.Sprint(err) != fmt.Sprint(err2) || !reflect.DeepEqual(got, again)) {
			t.Errorf("%q: got %+v, %v, and then %+v, %v", text, got, err, again, err2)
		}

		// One document of all is what Open reads.
		doc := []byte(text)
		want, err := codec.Auto[database]().Decode(doc)
		if one, treeErr := whole.decode([][]leaf{{{"", "k", doc}}}); err == nil && (treeErr != nil || !reflect.DeepEqual(one, want)) {
			t.Errorf("%q: got %+v, %v, Open has %+v", text, one, treeErr, want)
		}
		if !bytes.Equal(doc, []byte(text)) {
			t.Errorf("%q became %q", text, doc)
		}
	})
}
