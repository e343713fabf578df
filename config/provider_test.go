package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/etcdkit/etcdkit/internal/follow"
)

func TestKeysGrowATree(t *testing.T) {
	tree := map[string]any{}
	for _, name := range []string{"level", "database.url", "database/pool/size", "database.pool.idle", "a.b/c.d"} {
		if err := grow(tree, name, "of "+name); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]any{
		"level": "of level",
		"database": map[string]any{
			"url":  "of database.url",
			"pool": map[string]any{"size": "of database/pool/size", "idle": "of database.pool.idle"},
		},
		"a": map[string]any{"b": map[string]any{"c": map[string]any{"d": "of a.b/c.d"}}},
	}
	if !reflect.DeepEqual(tree, want) {
		t.Errorf("got %v", tree)
	}
	for name, says := range map[string]string{
		"database":                      `"database"`,
		"database/url":                  `"database/url"`,
		"level/of":                      `"level"`,
		"database.url.host":             `"database/url"`,
		"":                              "empty",
		"a//b":                          "empty",
		"a/.b":                          "empty",
		"a/":                            "empty",
		strings.Repeat("x.", 101) + "x": "over 100 parts",
	} {
		if err := grow(tree, name, "no"); err == nil || !strings.Contains(err.Error(), says) || len(err.Error()) > 1000 {
			t.Errorf("%q: %v", shown(name), err)
		}
	}
	if !reflect.DeepEqual(tree, want) {
		t.Errorf("what was refused is in it: %v", tree)
	}
}

// Whether the keys are still those that were read shows in their revisions and their number.
func TestWhatChangedBeforeTheWatchIsFound(t *testing.T) {
	all := map[string]*follow.Entry{"a": put(5, "1"), "b": put(7, "2"), "gone": nil}
	for name, c := range map[string]struct {
		read     providerRead
		revision int64
		want     bool
	}{
		"nothing read":    {providerRead{}, 9, true},
		"the same":        {providerRead{revision: 7, keys: 2}, 9, false},
		"put since":       {providerRead{revision: 6, keys: 2}, 9, true},
		"deleted since":   {providerRead{revision: 8, keys: 3}, 9, true},
		"another history": {providerRead{revision: 10, keys: 2}, 9, true},
	} {
		if got := c.read.outdated(all, c.revision); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAProviderRefusesANameInEveryMethod(t *testing.T) {
	for _, p := range []*Provider{NewProvider(nil, "a/"), NewTreeProvider(nil, "a/"), NewTreeProvider(nil, "")} {
		_, err := p.Read()
		_, err2 := p.ReadBytes()
		err3 := p.Watch(func(any, error) { t.Error("called") })
		if err == nil || err2 == nil || err3 == nil || !strings.Contains(fmt.Sprint(err, err2, err3), "refused: it ") {
			t.Errorf("%v; %v; %v", err, err2, err3)
		}
		if err := p.Unwatch(); err != nil {
			t.Error(err)
		}
	}
}

// What changes a moment before the connection is lost, and has not been called for, is called for once it is back.
func TestAChangeBeforeAnInterruptionIsCalledForAfterwards(t *testing.T) {
	var calls []string
	w := &providerWatch{
		provider: NewTreeProvider(nil, "tenants"), inbox: newMapInbox(""), pending: map[string]*follow.Entry{},
		callback: func(event any, err error) {
			if err != nil {
				event = errors.Is(err, ErrNotCurrent)
			}
			calls = append(calls, fmt.Sprint(event))
		},
		since: providerRead{revision: 5},
	}
	look := func() {
		t.Helper()
		page, whole := w.inbox.take()
		if !whole {
			t.Fatal("the page is not whole")
		}
		w.look(page)
	}
	w.inbox.Changed(follow.Change{Initial: true, Revision: 5})
	w.inbox.Live()
	look()
	w.inbox.Changed(follow.Change{Revision: 6, Events: []follow.Event{became("a", 6, "1")}})
	w.inbox.Stale(errCut)
	look()
	w.inbox.Stale(errCut)
	look()
	w.inbox.Changed(follow.Change{Revision: 8, Events: []follow.Event{became("b", 7, "1")}})
	w.inbox.Live()
	look()
	if want := []string{"true", "{[tenants/a tenants/b] 8}"}; !slices.Equal(calls, want) {
		t.Errorf("called with %q, want %q", calls, want)
	}
}
