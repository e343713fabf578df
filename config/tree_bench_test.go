package config

import (
	"fmt"
	"testing"
)

// BenchmarkTree reads all keys again, as a change of one of them has it done.
func BenchmarkTree(b *testing.B) {
	var services, plain []leaf
	for i := range 250 {
		for _, l := range []leaf{
			{path: "backends/$.host", value: []byte("host.example.org")},
			{path: "backends/$.port", value: []byte("8080")},
			{path: "backends/$/labels.zone", value: []byte("eu-1b")},
			{path: "backends/$/labels/commit", value: []byte("3f2a")},
		} {
			l.path = fmt.Sprintf("backends/service-%03d%s", i, l.path[len("backends/$"):])
			l.key = "/config/app/" + l.path
			services = append(services, l)
		}
	}
	for i := range 1000 {
		path := fmt.Sprintf("key-%03d", i)
		plain = append(plain, leaf{path, "/config/app/" + path, []byte("value")})
	}
	var layers [][]leaf
	for range 3 {
		layers = append(layers, services[:len(services)/3])
		services = services[len(services)/3:]
	}
	benchmarkTree[app](b, "keys=1000/fields", layers)
	benchmarkTree[map[string]string](b, "keys=1000/entries", [][]leaf{plain})
	benchmarkTree[app](b, "keys=10", [][]leaf{of("region = eu", "database.url = postgres://db", "database.pool = 5", "database.timeout = 30s",
		"log/level = info", `tags = ["a", "b"]`, "backends.a.host = h", "backends.a.port = 80", "pair = [1,2]", "limit = 7")})
	benchmarkTree[app](b, "keys=1/json", [][]leaf{of(`database = {"url": "postgres://db", "pool": 5, "timeout": "30s"}`)})
}

func benchmarkTree[T any](b *testing.B, name string, layers [][]leaf) {
	b.Run(name, func(b *testing.B) {
		tree, err := newTree[T](nil, true, false)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tree.decode(layers); err != nil {
				b.Fatal(err)
			}
		}
	})
}
