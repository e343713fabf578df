package turn

import "testing"

// Whoever is passed must be one that stands again; etcd's own recipes and who shares a lock do not.
func TestOnlyAKeyWithANumberIsOneThatMayBePassed(t *testing.T) {
	for key, want := range map[string]bool{
		"jobs/694d9a2b-1":       true,
		"jobs/7fffffffffffffff": false,
		"jobs/694d9a2b":         false,
		"jobs/694d9a2b-":        false,
		"jobs/-1":               false,
		"jobs/694d9a2b-x":       false,
		"jobs/694d9a2b-1-2":     false,
		"jobs/somebody-1":       false,
		"jobs/~r.1-694d9a2b-1":  false,
		"jobs/~10.3-694d9a2b-1": false,
		"jobs/":                 false,
	} {
		if got := Numbered("jobs/", key); got != want {
			t.Errorf("%s: %t, want %t", key, got, want)
		}
	}
}
