package registry

import (
	"fmt"
	"testing"
)

// BenchmarkPick is the cost of a pick by the size of the view, all weights equal and of ten sorts; without Done the
// load only grows, which costs the same.
func BenchmarkPick(b *testing.B) {
	for _, kind := range kinds {
		for _, n := range []int{100, 5000} {
			for _, weights := range []int{1, 10} {
				for _, done := range []bool{false, true} {
					if kind == ConsistentHash && !done {
						continue // whose bound would be tested more and more often
					}
					b.Run(fmt.Sprintf("%s/instances=%d/weights=%d/done=%t", kind, n, weights, done), func(b *testing.B) {
						v := viewOf(crowd(n, func(i int, instance *Instance) { instance.Weight = 100 + i%weights*50 })...)
						p := NewPicker(v, kind, nil)
						keys := keys()[:1024]
						b.ReportAllocs()
						for i := 0; b.Loop(); i++ {
							pick, err := p.Pick(keys[i%len(keys)])
							if err != nil {
								b.Fatal(err)
							}
							if done {
								pick.Done(nil)
							}
						}
					})
				}
			}
		}
	}
}

// BenchmarkPickSideBySide is that of many goroutines.
func BenchmarkPickSideBySide(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.String(), func(b *testing.B) {
			p := NewPicker(viewOf(crowd(5000)...), kind, nil)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					pick, _ := p.Pick("k")
					pick.Done(nil)
				}
			})
		})
	}
}

// BenchmarkPickAfterAChange is what the first pick after a change of one instance costs.
func BenchmarkPickAfterAChange(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.String(), func(b *testing.B) {
			all := crowd(5000, func(i int, instance *Instance) { instance.Weight = 100 + i%10*50 })
			v := viewOf(all...)
			p := NewPicker(v, kind, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					show(v, all[1:]...)
				} else {
					show(v, all...)
				}
				pick, _ := p.Pick("k")
				pick.Done(nil)
			}
		})
	}
}
