package codec

import (
	"encoding/json"
	"testing"
	"time"
)

// BenchmarkDecode compares with encoding/json alone: what it costs more is the scan for depth and keys.
func BenchmarkDecode(b *testing.B) {
	type plain struct {
		RPS  int               `json:"rps"`
		Tags []string          `json:"tags"`
		More map[string]string `json:"more"`
	}
	type timed struct {
		plain
		Timeout time.Duration `json:"timeout"`
	}
	data := []byte(`{"rps": 100, "timeout": "30s", "tags": ["a", "b", "c"], "more": {"a": "1", "b": "2", "c": "3"}}`)
	run := func(name string, decode func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("encoding json", func() error { var v plain; return json.Unmarshal(data, &v) })
	run("json", func() error { _, err := JSON[plain]().Decode(data); return err })
	run("json with durations", func() error { _, err := JSON[timed]().Decode(data); return err })
	run("yaml with durations", func() error { _, err := YAML[timed]().Decode(data); return err })
	run("bare int", func() error { _, err := Auto[int]().Decode([]byte("8080\n")); return err })
}
